// CaptureBlocks: which blocks belong to a capture.
//
// They are the ones that were dirty for the target at the cut: in the closed
// live map or in the target's pending map. While the maps are merged after the
// cut, bits move closed -> pending -> in-flight, always set in the destination
// before they are cleared in the source. Whoever looks in that order, one map
// wholly after the other, sees a moving bit at least once, and the union of the
// three is exactly the capture all along: nothing else sets bits in them. That
// holds because
//  - marks go to the live map only, and the closed one takes no new bits before
//    the next flip, which needs the gate drained, while every writer that asks
//    here is inside the gate;
//  - the owner's other operations on pending and in-flight maps wait on the
//    device's map mutex, which the checkpoint holds until the merge is done.
// After the merge the in-flight map alone is the answer; pending must not be
// asked any more, another target's checkpoint adds newer bits to it. A writer
// that read the phase before the merge ended is still inside the gate, so the
// next flip is still to come, and its wider look is still exact.
//
// With the whole disk in scope every block belongs to the capture, and no map is
// asked.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>

#include "bitmap/dirty_bitmap.h"

namespace tidemark {

// Blocks [first, end).
struct BlockRange {
  uint64_t first;
  uint64_t end;
};

class CaptureBlocks {
 public:
  // The maps to look at while they are merged: in the direction in which bits move.
  static constexpr MapId::Kind kLookOrder[] = {MapId::Kind::kClosed, MapId::Kind::kPending,
                                               MapId::Kind::kInFlight};

  CaptureBlocks(const DirtyBitmap& bitmap, uint32_t slot, bool is_whole_disk = false)
      : bitmap_(bitmap),
        slot_(slot),
        block_bytes_(bitmap.granularity_bytes()),
        is_whole_disk_(is_whole_disk) {}

  // The maps are merged: called once, by the checkpoint.
  void on_merged() noexcept { is_merged_.store(true, std::memory_order_release); }

  // The first run of the capture's blocks within [first, end). A run may be
  // followed directly by another.
  std::optional<BlockRange> next(uint64_t first, uint64_t end) const noexcept;

  // All of [first, end) is in the capture. After the merge only.
  bool contains_all(uint64_t first, uint64_t end) const noexcept;

 private:
  bool contains(uint64_t block_index, bool is_merged) const noexcept;
  std::optional<BlockRange> next_of_short(uint64_t first, uint64_t end,
                                          bool is_merged) const noexcept;
  std::optional<BlockRange> next_of_map(MapId map, uint64_t first, uint64_t end) const noexcept;

  const DirtyBitmap& bitmap_;
  const uint32_t slot_;
  const uint64_t block_bytes_;
  const bool is_whole_disk_;
  std::atomic<bool> is_merged_{false};
};

}  // namespace tidemark
