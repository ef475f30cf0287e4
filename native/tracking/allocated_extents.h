#pragma once

#include <vector>

#include "bitmap/dirty_bitmap.h"
#include "device/block_device.h"

namespace tidemark {

// What the device does not report as zero, ascending. Blocks while it asks.
Result<std::vector<ByteExtent>> allocated_extents(BlockDevice& device);

}  // namespace tidemark
