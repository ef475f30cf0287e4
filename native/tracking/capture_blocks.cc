#include "tracking/capture_blocks.h"

#include <algorithm>
#include <iterator>

namespace tidemark {

namespace {

// Up to here a look at each block is cheaper than a search that may run on to
// the next dirty block far away.
constexpr uint64_t kShortRangeBlocks = 1024;

}  // namespace

bool CaptureBlocks::contains(uint64_t block_index, bool is_merged) const noexcept {
  if (is_merged) return bitmap_.is_dirty(MapId::in_flight(slot_), block_index);
  return std::any_of(std::begin(kLookOrder), std::end(kLookOrder), [&](MapId::Kind kind) {
    return bitmap_.is_dirty({kind, slot_}, block_index);
  });
}

std::optional<BlockRange> CaptureBlocks::next(uint64_t first, uint64_t end) const noexcept {
  if (is_whole_disk_) return first < end ? std::optional(BlockRange{first, end}) : std::nullopt;
  const bool is_merged = is_merged_.load(std::memory_order_acquire);
  if (end - first <= kShortRangeBlocks) return next_of_short(first, end, is_merged);
  if (is_merged) return next_of_map(MapId::in_flight(slot_), first, end);
  std::optional<BlockRange> earliest;
  for (const MapId::Kind kind : kLookOrder) {
    const std::optional<BlockRange> run = next_of_map({kind, slot_}, first, end);
    // The maps' summaries are read without order; with the mover's fence between
    // set and clear this one makes each look later than the one before.
    std::atomic_thread_fence(std::memory_order_acquire);
    if (run && (!earliest || run->first < earliest->first)) earliest = run;
  }
  return earliest;
}

std::optional<BlockRange> CaptureBlocks::next_of_short(uint64_t first, uint64_t end,
                                                       bool is_merged) const noexcept {
  while (first < end && !contains(first, is_merged)) ++first;
  if (first == end) return std::nullopt;
  uint64_t run_end = first + 1;
  while (run_end < end && contains(run_end, is_merged)) ++run_end;
  return BlockRange{first, run_end};
}

std::optional<BlockRange> CaptureBlocks::next_of_map(MapId map, uint64_t first,
                                                     uint64_t end) const noexcept {
  const std::optional<ByteExtent> extent =
      bitmap_.next_extent(map, first * block_bytes_, (end - first) * block_bytes_);
  if (!extent) return std::nullopt;
  const uint64_t extent_end = extent->offset_bytes + extent->length_bytes;
  const BlockRange run{std::max(first, extent->offset_bytes / block_bytes_),
                       std::min(end, (extent_end + block_bytes_ - 1) / block_bytes_)};
  if (run.first >= run.end) return std::nullopt;
  return run;
}

bool CaptureBlocks::contains_all(uint64_t first, uint64_t end) const noexcept {
  if (is_whole_disk_) return true;
  while (first < end && contains(first, true)) ++first;
  return first == end;
}

}  // namespace tidemark
