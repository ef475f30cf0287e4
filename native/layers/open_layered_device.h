#pragma once

#include <memory>
#include <string>
#include <vector>

#include "layers/layered_device.h"
#include "layers/scratch_budget.h"

namespace tidemark {

struct LayeredDeviceParameters {
  Uuid disk;
  uint64_t size_bytes = 0;            // of the disk at that point
  uint32_t granularity_bytes = 4096;  // of the scratch index
  std::shared_ptr<BlockDevice> base;
  std::string base_path;                             // of `base`; empty: it is of no file
  std::vector<std::shared_ptr<const Layer>> layers;  // oldest first
  std::string scratch_path;                          // empty: the device is read-only
  std::shared_ptr<ScratchBudget> scratch_budget;     // null: as much as there is
};

// Opens or creates the scratch: kForeign when it belongs to another disk, other
// layers, another size or granularity, kInUse while another device has it, kCorrupt
// or kTruncated when it is damaged. Where a fold has begun the disk is opened as it
// is, from the base at `base_path`: kCorrupt without the fold's marks. Blocks.
Result<std::shared_ptr<LayeredDevice>> open_layered_device(LayeredDeviceParameters parameters);

}  // namespace tidemark
