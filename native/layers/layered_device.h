// LayeredDevice: any recovery point as a disk, at once, whatever its size.
//
// A read takes each byte from the newest place that has it: the scratch file
// (what was written through this device), the layers from new to old, the base.
// Writes go to the scratch alone, so a point that is kept never changes. The
// scratch is a sparse file of the disk's size with an index of its own beside
// it (data before index on flush), so that a served disk survives a restart.
// Bytes beyond the base's end read as zeroes.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "device/block_device.h"
#include "layers/layer.h"

namespace tidemark {

struct LayeredDeviceParameters {
  Uuid disk;
  uint64_t size_bytes = 0;            // of the disk at that point
  uint32_t granularity_bytes = 4096;  // of the scratch index
  std::shared_ptr<BlockDevice> base;
  std::vector<std::shared_ptr<const Layer>> layers;  // oldest first
  std::string scratch_path;                          // empty: the device is read-only
};

// Opens or creates the scratch: kForeign when it belongs to another disk, other
// layers, another size or granularity, kInUse while another device has it, kCorrupt
// or kTruncated when it is damaged. Blocks.
Result<std::shared_ptr<BlockDevice>> open_layered_device(LayeredDeviceParameters parameters);

}  // namespace tidemark
