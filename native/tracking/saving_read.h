// SavingRead: one run of blocks whose old content is being read for the store,
// because a write is about to overwrite them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "device/io_request.h"
#include "tracking/spill_file.h"

namespace tidemark {

class FrozenBlocks;
class ParkedWrite;

// Owned by itself from the submission of the read until the blocks are saved or
// given up. At least one write inside the gate waits for it, which keeps the
// capture's state (see CaptureSlots) and the backing alive so long.
struct SavingRead {
  FrozenBlocks* owner = nullptr;
  uint64_t first_block = 0;
  uint64_t block_count = 0;
  std::shared_ptr<std::byte> bytes;
  IoRequest request;
  SpillJob spill;                     // slots: empty when the room is in memory
  std::vector<ParkedWrite*> waiters;  // guarded by the mutex of the blocks' shard

  uint64_t end_block() const noexcept { return first_block + block_count; }
};

}  // namespace tidemark
