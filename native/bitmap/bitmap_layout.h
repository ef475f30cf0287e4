// Where things lie in a bitmap file of format version 2 (docs/formats/bitmap.md).
// A value type, computed from the disk's size and the granularity alone.
#pragma once

#include <cassert>
#include <cstdint>

#include "bitmap/dirty_bitmap.h"

namespace tidemark {

inline constexpr uint64_t kBitmapPageBytes = 4096;
inline constexpr uint64_t kBitmapMapsOffsetBytes = 256 << 10;  // before it: header, reserved area
inline constexpr uint32_t kLiveMaps = 2;
inline constexpr uint32_t kMapsPerTarget = 4;

struct BitmapLayout {
  uint64_t block_count;
  uint64_t map_bytes;  // of one map, whole pages

  static bool is_valid(uint64_t disk_size_bytes, uint64_t granularity_bytes) noexcept {
    if (disk_size_bytes == 0 || disk_size_bytes > INT64_MAX) return false;
    if (granularity_bytes < kMinGranularityBytes) return false;
    if ((granularity_bytes & (granularity_bytes - 1)) != 0) return false;
    return blocks_of(disk_size_bytes, granularity_bytes) <= kMaxMapBytes * 8;
  }

  static BitmapLayout of(uint64_t disk_size_bytes, uint64_t granularity_bytes) noexcept {
    assert(is_valid(disk_size_bytes, granularity_bytes));
    const uint64_t block_count = blocks_of(disk_size_bytes, granularity_bytes);
    const uint64_t page_count = (block_count - 1) / (kBitmapPageBytes * 8) + 1;
    return {block_count, page_count * kBitmapPageBytes};
  }

  uint64_t live_offset_bytes(uint32_t index) const noexcept {
    return kBitmapMapsOffsetBytes + index * map_bytes;
  }
  // Pending, in-flight, staged and suspect follow one another.
  uint64_t slot_offset_bytes(uint32_t slot) const noexcept {
    return live_offset_bytes(kLiveMaps) + slot * slot_bytes();
  }
  uint64_t slot_bytes() const noexcept { return kMapsPerTarget * map_bytes; }
  uint64_t file_bytes() const noexcept { return slot_offset_bytes(kMaxTargets); }

 private:
  static uint64_t blocks_of(uint64_t disk_size_bytes, uint64_t granularity_bytes) noexcept {
    return (disk_size_bytes - 1) / granularity_bytes + 1;
  }
};

}  // namespace tidemark
