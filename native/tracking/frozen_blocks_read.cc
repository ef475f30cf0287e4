// The reader's side of FrozenBlocks.
#include <algorithm>
#include <atomic>

#include "device/aligned_read.h"
#include "device/sync_io.h"
#include "tracking/frozen_blocks.h"

namespace tidemark {

Status FrozenBlocks::read(uint64_t offset_bytes, std::span<std::byte> into) {
  const uint64_t first = block_at(offset_bytes);
  const uint64_t end = block_end_at(offset_bytes + into.size());
  if (Status status = check_readable(first, end); !status.is_ok()) return status;
  while (!into.empty()) {
    const BlockState state = states_->get(block_at(offset_bytes));
    uint64_t run_end = block_at(offset_bytes) + 1;
    if (state == BlockState::kFrozen) {
      while (run_end < end && states_->get(run_end) == BlockState::kFrozen) ++run_end;
    }
    const uint64_t length = std::min<uint64_t>(run_end * block_bytes_ - offset_bytes, into.size());
    Status status =
        state == BlockState::kFrozen
            ? read_run(offset_bytes, into.first(length))
            : read_saved(block_at(offset_bytes), offset_bytes % block_bytes_, into.first(length));
    if (!status.is_ok()) return status;
    offset_bytes += length;
    into = into.subspan(length);
  }
  // Broken or closed meanwhile, writes went on without saving anything.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return check_readable(first, end);
}

Status FrozenBlocks::check_open() const {
  if (is_closed_.load()) {
    return {ErrorCode::kClosed, "Cannot read the capture: because it is closed. Take another."};
  }
  if (is_broken_.load()) {
    return {ErrorCode::kCaptureBroken, "Cannot read the capture: because " + broken_reason() +
                                           ". Give its blocks back and take another."};
  }
  return Status::ok();
}

Status FrozenBlocks::check_readable(uint64_t first, uint64_t end) const {
  if (Status status = check_open(); !status.is_ok()) return status;
  bool is_inside = blocks_.contains_all(first, end);
  for (; is_inside && first < end; ++first) {
    is_inside = states_->get(first) != BlockState::kReleased;
  }
  if (is_inside) return Status::ok();
  return {ErrorCode::kInvalidArgument,
          "Cannot read the capture: because a block is not in it or was released. Read inside its "
          "extents."};
}

uint64_t FrozenBlocks::untouched_bytes(uint64_t offset_bytes,
                                       uint64_t length_bytes) const noexcept {
  const uint64_t end = block_end_at(offset_bytes + length_bytes);
  uint64_t block = block_at(offset_bytes);
  while (block < end && blocks_.contains_all(block, block + 1) &&
         states_->get(block) == BlockState::kFrozen) {
    ++block;
  }
  const uint64_t untouched_end = std::min(block * block_bytes_, offset_bytes + length_bytes);
  return untouched_end > offset_bytes ? untouched_end - offset_bytes : 0;
}

// Blocks that were frozen a moment ago: reads them all at once, then replaces
// those that a writer has claimed meanwhile by what it saved.
Status FrozenBlocks::read_run(uint64_t offset_bytes, std::span<std::byte> into) {
  if (Status status = read_aligned(*backing_, offset_bytes, into); !status.is_ok()) return status;
  std::atomic_thread_fence(std::memory_order_seq_cst);
  while (!into.empty()) {
    const uint64_t block = block_at(offset_bytes);
    const uint64_t offset_in_block = offset_bytes % block_bytes_;
    const uint64_t length = std::min<uint64_t>(block_bytes_ - offset_in_block, into.size());
    if (states_->get(block) != BlockState::kFrozen) {
      Status status = read_saved(block, offset_in_block, into.first(length));
      if (!status.is_ok()) return status;
    }
    offset_bytes += length;
    into = into.subspan(length);
  }
  return Status::ok();
}

// Waits for a copy under way: that is one read of the backing, as ours would be.
Status FrozenBlocks::read_saved(uint64_t block_index, uint64_t offset_in_block,
                                std::span<std::byte> into) {
  SavedBlock saved;
  {
    Shard& shard = shard_of(block_index);
    MutexLock lock(shard.mutex);
    lock.wait(shard.copied, [&shard, block_index]() NO_THREAD_SAFETY_ANALYSIS {
      return shard.copying.count(block_index) == 0;
    });
    const auto found = shard.saved.find(block_index);
    if (found == shard.saved.end()) return Status::ok();  // over or released: read() answers it
    saved = found->second;
  }
  const int error = store_->read(saved, offset_in_block, into);
  if (error == 0) return Status::ok();
  if (is_closed_.load()) return Status::ok();  // the spill file is gone: read() answers it
  break_capture("the spill file cannot be read");
  return Status::from_errno("cannot read the spill file", error);
}

void FrozenBlocks::release(uint64_t offset_bytes, uint64_t length_bytes) noexcept {
  if (offset_bytes >= disk_size_bytes_) return;
  const uint64_t end_bytes = offset_bytes + std::min(length_bytes, disk_size_bytes_ - offset_bytes);
  const uint64_t first = block_end_at(offset_bytes);
  const uint64_t end =
      end_bytes == disk_size_bytes_ ? block_end_at(end_bytes) : block_at(end_bytes);
  states_->release(first, end, [this](uint64_t block_index) { drop_saved(block_index); });
}

void FrozenBlocks::drop_saved(uint64_t block_index) noexcept {
  SavedBlock dropped;
  {
    Shard& shard = shard_of(block_index);
    const MutexLock lock(shard.mutex);
    const auto found = shard.saved.find(block_index);
    if (found == shard.saved.end()) return;
    dropped = std::move(found->second);
    shard.saved.erase(found);
  }
  store_->give_back(dropped);
}

}  // namespace tidemark
