#pragma once

#include <memory>
#include <optional>
#include <string>

#include "device/block_device.h"
#include "layers/granule_locks.h"
#include "layers/granule_states.h"
#include "layers/live_states.h"
#include "layers/scratch_flusher.h"
#include "layers/scratch_format.h"

namespace tidemark {

// What was written through one LayeredDevice: the data, a file of the disk's
// size, and what of it counts. While a disk is folded, the base is such data.
class Scratch {
 public:
  // The index was formatted for `identity` (ScratchIndex::format). At `live_path` the states
  // survive the process (live_states.h); empty: what was not flushed dies with it. Blocks.
  static Result<std::unique_ptr<Scratch>> open(std::shared_ptr<BlockDevice> data,
                                               std::shared_ptr<BlockDevice> index,
                                               const ScratchIdentity& identity,
                                               const std::string& what,
                                               const std::string& live_path = "");
  ~Scratch();

  BlockDevice& data() noexcept { return *data_; }
  GranuleStates& states() noexcept { return *states_; }
  const GranuleStates& states() const noexcept { return *states_; }
  GranuleLocks& locks() noexcept { return locks_; }
  ScratchFlusher& flusher() noexcept { return flusher_; }

  uint64_t size_bytes() const noexcept { return size_bytes_; }
  uint64_t granularity_bytes() const noexcept { return granularity_bytes_; }
  uint64_t granule_count() const noexcept {
    return (size_bytes_ + granularity_bytes_ - 1) / granularity_bytes_;
  }
  // Zeroes are written to the data, as holes, instead of being only a state.
  bool writes_zeroes() const noexcept { return writes_zeroes_; }

  // Changes that have not got their claim yet, and all that follow, go there. The
  // caller holds every granule.
  void hand_over_to(BlockDevice& successor) noexcept { successor_ = &successor; }
  // Null: none. The caller holds a claim.
  BlockDevice* successor() const noexcept { return successor_; }

 private:
  struct States {
    std::unique_ptr<GranuleStates> words;
    std::unique_ptr<ScratchIndex> index;
    std::optional<LiveStates> live;
  };
  static Result<States> load(std::shared_ptr<BlockDevice> index, const ScratchIdentity& identity,
                             const std::string& what, const std::string& live_path);

  Scratch(std::shared_ptr<BlockDevice> data, States states, const ScratchIdentity& identity);

  const uint64_t size_bytes_;
  const uint64_t granularity_bytes_;
  const bool writes_zeroes_;
  const std::shared_ptr<BlockDevice> data_;
  std::optional<LiveStates> live_;
  const std::unique_ptr<GranuleStates> states_;
  GranuleLocks locks_;
  BlockDevice* successor_ = nullptr;  // guarded by the claims of locks_
  ScratchFlusher flusher_;
};

}  // namespace tidemark
