// Block status out of the union of several maps of a dirty bitmap.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "bitmap/dirty_bitmap.h"
#include "device/block_device.h"

namespace tidemark {

// Appends at most max_extents extents, in turn dirty and clean, that cover
// `range` or a prefix of it. The maps are looked at in the order given.
void append_dirty_extents(const DirtyBitmap& bitmap, std::span<const MapId> maps, ByteExtent range,
                          size_t max_extents, std::vector<DeviceExtent>& extents);

}  // namespace tidemark
