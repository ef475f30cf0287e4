// CaptureStore: the old content of blocks that were written after the cut.
//
// Representation: a heap block of memory for each saved block up to a limit,
// then slots of a SpillFile. Room is reserved before the saving read starts, so
// that a full store is met before a write is held up for nothing. All functions
// run on any thread.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "tracking/capture.h"
#include "tracking/spill_file.h"

namespace tidemark {

// In memory, or where `bytes` is null, in a slot of the spill file.
struct SavedBlock {
  std::shared_ptr<std::byte> bytes;
  uint64_t spill_slot = 0;
};

class CaptureStore {
 public:
  static Result<std::unique_ptr<CaptureStore>> create(const CaptureLimits& limits,
                                                      uint32_t block_bytes);

  // Aligned to a page, as devices like it best; null when there is no memory.
  static std::shared_ptr<std::byte> allocate(uint64_t length_bytes) noexcept;

  // Room for `count` blocks: in memory when `spill_slots` stays empty, else in
  // these slots. False when the store is full.
  bool reserve(uint64_t count, std::vector<uint64_t>& spill_slots);
  // One block's room is free again.
  void give_back(const SavedBlock& block) noexcept;

  SpillFile* spill() noexcept { return spill_.get(); }
  int read(const SavedBlock& block, uint64_t offset_in_block, std::span<std::byte> into) noexcept;

  uint64_t memory_used_bytes() const noexcept { return memory_used_bytes_.load(); }

  void close() noexcept;

 private:
  CaptureStore(uint64_t memory_bytes, uint32_t block_bytes, std::unique_ptr<SpillFile> spill)
      : memory_limit_bytes_(memory_bytes), block_bytes_(block_bytes), spill_(std::move(spill)) {}

  const uint64_t memory_limit_bytes_;
  const uint32_t block_bytes_;
  const std::unique_ptr<SpillFile> spill_;  // null: none
  std::atomic<uint64_t> memory_used_bytes_{0};
};

}  // namespace tidemark
