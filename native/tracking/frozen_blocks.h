// FrozenBlocks: the state of one capture that writers, saving reads and the
// reader share.
//
// Representation: BlockStates says what has become of each block; a table in 64
// shards holds the blocks that are being copied and those that are saved. A
// block's shard is that of its group of 64 neighbours, and a saving read stays
// within one group, so that one mutex covers it whole. Cost for a write: a look
// at the bitmap and the state of each of its blocks; mutex, allocation and copy
// only for blocks still frozen or copying.
//
// Why a reader sees no newer content, without a lock that a writer would wait
// for: a write reaches the backing only after its blocks were seen to have left
// the frozen state, or the capture to be broken or closed. The reader looks at
// both once more *after* it read from the backing. Had it read anything newer,
// that look finds the change, and it takes the saved copy or answers an error.
//
// Lifetime: the capture and the device's CaptureSlots hold it. Writers and the
// saving reads that they wait for use a plain pointer: they are inside the gate,
// and CaptureSlots lets go only of states that were closed before a checkpoint
// had drained the gate.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/mutex.h"
#include "common/status.h"
#include "device/block_device.h"
#include "tracking/block_states.h"
#include "tracking/capture_blocks.h"
#include "tracking/capture_store.h"
#include "tracking/saving_read.h"

namespace tidemark {

class ParkedWrite;

class FrozenBlocks {
 public:
  static Result<std::shared_ptr<FrozenBlocks>> create(std::shared_ptr<BlockDevice> backing,
                                                      const DirtyBitmap& bitmap, uint32_t slot,
                                                      const CaptureLimits& limits,
                                                      CaptureScope scope = CaptureScope::kChanged);

  CaptureBlocks& blocks() noexcept { return blocks_; }

  // -- Writers, inside the gate ---------------------------------------------
  // Whether a write of these bytes has anything to wait for.
  bool must_save(uint64_t offset_bytes, uint64_t end_bytes) const noexcept;
  // Starts saving blocks of [from, end), a window of them at most, and makes
  // `write` wait for these and for the copies already under way. Answers from
  // where to go on: `end` when all is saved or being saved.
  uint64_t save(uint64_t from_bytes, uint64_t end_bytes, ParkedWrite& write);

  // -- The reader -------------------------------------------------------------
  Status read(uint64_t offset_bytes, std::span<std::byte> into);
  void release(uint64_t offset_bytes, uint64_t length_bytes) noexcept;
  // How much from `offset_bytes` on the disk itself still holds as it was at the cut:
  // whole blocks, none of which a write can have reached before this is asked.
  uint64_t untouched_bytes(uint64_t offset_bytes, uint64_t length_bytes) const noexcept;
  Status check_open() const;

  // -- State --------------------------------------------------------------------
  bool is_broken() const noexcept { return is_broken_.load(); }
  bool is_over() const noexcept { return is_broken_.load() || is_closed_.load(); }
  std::string broken_reason() const;
  uint64_t saved_bytes() const noexcept { return saved_bytes_.load(); }
  uint64_t memory_used_bytes() const noexcept { return store_->memory_used_bytes(); }

  // Writers stop saving; what was saved is freed. Waits for the spill thread,
  // so not on an I/O thread.
  void close() noexcept;

 private:
  struct Shard {
    Mutex mutex;
    std::condition_variable copied;
    std::unordered_map<uint64_t, SavingRead*> copying GUARDED_BY(mutex);
    std::unordered_map<uint64_t, SavedBlock> saved GUARDED_BY(mutex);
  };
  static constexpr uint64_t kGroupBlocks = 64;
  static constexpr uint64_t kShards = 64;

  FrozenBlocks(std::shared_ptr<BlockDevice> backing, const DirtyBitmap& bitmap, uint32_t slot,
               CaptureScope scope, std::unique_ptr<BlockStates> states,
               std::unique_ptr<CaptureStore> store);

  Shard& shard_of(uint64_t block_index) noexcept {
    return shards_[block_index / kGroupBlocks % kShards];
  }
  uint64_t block_at(uint64_t offset_bytes) const noexcept { return offset_bytes / block_bytes_; }
  uint64_t block_end_at(uint64_t end_bytes) const noexcept {
    return (end_bytes + block_bytes_ - 1) / block_bytes_;
  }

  // The writers' side, in frozen_blocks_save.cc.
  using Reads = std::vector<std::unique_ptr<SavingRead>>;
  void save_group(uint64_t first, uint64_t end, ParkedWrite& write);
  Reads claim_group(uint64_t first, uint64_t end, ParkedWrite& write);
  void wait_for_copying(Shard& shard, uint64_t block_index, SavingRead*& last_waited,
                        ParkedWrite& write) REQUIRES(shard.mutex);
  std::unique_ptr<SavingRead> make_read(uint64_t first, uint64_t end);
  void start(std::unique_ptr<SavingRead> read) noexcept;
  static void on_read(IoRequest& request, void* context, uint64_t word, int error) noexcept;
  static void on_spilled(SpillJob& job, int error) noexcept;
  void finish(std::unique_ptr<SavingRead> read, bool is_good) noexcept;
  void keep(Shard& shard, const SavingRead& read, uint64_t block_index) REQUIRES(shard.mutex);
  SavedBlock place_of(const SavingRead& read, uint64_t block_index) const;
  void break_capture(const std::string& reason) noexcept;

  // The reader's side, in frozen_blocks_read.cc.
  Status check_readable(uint64_t first, uint64_t end) const;
  Status read_run(uint64_t offset_bytes, std::span<std::byte> into);
  Status read_backing(uint64_t offset_bytes, std::span<std::byte> into);
  Status read_saved(uint64_t block_index, uint64_t offset_in_block, std::span<std::byte> into);
  void drop_saved(uint64_t block_index) noexcept;

  const std::shared_ptr<BlockDevice> backing_;
  CaptureBlocks blocks_;
  const uint64_t disk_size_bytes_;
  const uint64_t block_bytes_;
  const std::unique_ptr<BlockStates> states_;
  const std::unique_ptr<CaptureStore> store_;
  std::array<Shard, kShards> shards_;
  std::atomic<uint64_t> saved_bytes_{0};
  std::atomic<bool> is_closed_{false};

  mutable Mutex reason_mutex_;
  std::string broken_reason_ GUARDED_BY(reason_mutex_);
  std::atomic<bool> is_broken_{false};  // set after the reason
};

}  // namespace tidemark
