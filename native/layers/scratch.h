#pragma once

#include <memory>
#include <string>

#include "device/block_device.h"
#include "layers/granule_locks.h"
#include "layers/granule_states.h"
#include "layers/scratch_flusher.h"
#include "layers/scratch_format.h"

namespace tidemark {

// What was written through one LayeredDevice: the data, a file of the disk's
// size, and what of it counts.
class Scratch {
 public:
  // The index was formatted for `identity` (ScratchIndex::format). Blocks.
  static Result<std::unique_ptr<Scratch>> open(std::shared_ptr<BlockDevice> data,
                                               std::shared_ptr<BlockDevice> index,
                                               const ScratchIdentity& identity,
                                               const std::string& what);

  BlockDevice& data() noexcept { return *data_; }
  GranuleStates& states() noexcept { return *states_; }
  const GranuleStates& states() const noexcept { return *states_; }
  GranuleLocks& locks() noexcept { return locks_; }
  ScratchFlusher& flusher() noexcept { return flusher_; }

  uint64_t size_bytes() const noexcept { return size_bytes_; }
  uint64_t granularity_bytes() const noexcept { return granularity_bytes_; }

 private:
  Scratch(std::shared_ptr<BlockDevice> data, std::unique_ptr<GranuleStates> states,
          std::unique_ptr<ScratchIndex> index, const ScratchIdentity& identity);

  const uint64_t size_bytes_;
  const uint64_t granularity_bytes_;
  const std::shared_ptr<BlockDevice> data_;
  const std::unique_ptr<GranuleStates> states_;
  GranuleLocks locks_;
  ScratchFlusher flusher_;
};

}  // namespace tidemark
