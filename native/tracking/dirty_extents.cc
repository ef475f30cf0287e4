#include "tracking/dirty_extents.h"

#include <algorithm>
#include <cstdint>

namespace tidemark {

namespace {

// The dirty run of any of the maps that is first in [from, end): empty at `end`
// when there is none. When several touch, the longest of the first ones.
ByteExtent next_dirty(const DirtyBitmap& bitmap, std::span<const MapId> maps, uint64_t from,
                      uint64_t end) {
  ByteExtent first{end, 0};
  for (const MapId map : maps) {
    const auto extent = bitmap.next_extent(map, from, end - from);
    if (!extent || extent->offset_bytes >= end) continue;
    const uint64_t start = std::max(extent->offset_bytes, from);
    const uint64_t stop = std::min(extent->offset_bytes + extent->length_bytes, end);
    const bool is_longer = start == first.offset_bytes && stop - start > first.length_bytes;
    if (start < first.offset_bytes || is_longer) first = {start, stop - start};
  }
  return first;
}

}  // namespace

void append_dirty_extents(const DirtyBitmap& bitmap, std::span<const MapId> maps, ByteExtent range,
                          size_t max_extents, std::vector<DeviceExtent>& extents) {
  const uint64_t end = range.offset_bytes + range.length_bytes;
  const size_t first_new = extents.size();
  const auto append = [&](uint64_t length_bytes, uint32_t flags) {
    if (extents.size() > first_new && extents.back().flags == flags) {
      extents.back().length_bytes += length_bytes;
    } else {
      extents.push_back({length_bytes, flags});
    }
  };
  uint64_t from = range.offset_bytes;
  while (from < end) {
    const ByteExtent dirty = next_dirty(bitmap, maps, from, end);
    if (dirty.offset_bytes > from) append(dirty.offset_bytes - from, 0);
    if (dirty.length_bytes > 0) append(dirty.length_bytes, kExtentDirty);
    from = dirty.offset_bytes + dirty.length_bytes;
    if (extents.size() - first_new > max_extents) break;
  }
  if (extents.size() - first_new > max_extents) extents.resize(first_new + max_extents);
}

}  // namespace tidemark
