// LayerStack: what a recovery point holds, read-only: the base under layers.
//
// Representation: the layers' mapped indexes, searched from new to old, each
// narrowing the run that the ones below may answer for. Cost: a binary search in
// each layer for each run.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "device/block_device.h"
#include "layers/layer.h"

namespace tidemark {

// Consecutive bytes of the disk that one place has. No device: they are zero.
struct SourceRun {
  uint64_t length_bytes = 0;
  BlockDevice* device = nullptr;
  uint64_t device_offset_bytes = 0;
};

class LayerStack {
 public:
  // Layers oldest first.
  static Result<std::unique_ptr<LayerStack>> open(std::shared_ptr<BlockDevice> base,
                                                  std::vector<std::shared_ptr<const Layer>> layers);

  BlockDevice& base() const noexcept { return *base_; }
  const std::vector<std::shared_ptr<const Layer>>& layers() const noexcept { return layers_; }

  // From `offset` on, at most `max_bytes` (> 0) long.
  SourceRun find(uint64_t offset_bytes, uint64_t max_bytes) const noexcept;

 private:
  LayerStack() = default;

  std::shared_ptr<BlockDevice> base_;
  std::vector<std::shared_ptr<const Layer>> layers_;
  std::vector<std::shared_ptr<BlockDevice>> layer_files_;  // as layers_
};

}  // namespace tidemark
