// LayerStack: what a recovery point holds, read-only: the base under layers, whose data is
// checked as it is read.
//
// Representation: the layers' mapped indexes, searched from new to old, each
// narrowing the run that the ones below may answer for: there at once, at the cost of
// a binary search in each layer for each run. Of more than a few layers a thread makes
// one map meanwhile (layer_map.h), which is searched instead once it is there.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "device/block_device.h"
#include "layers/checked_layer.h"
#include "layers/content_source.h"
#include "layers/layer.h"
#include "layers/layer_map.h"

namespace tidemark {

class LayerStack final : public ContentSource {
 public:
  // Layers oldest first.
  static Result<std::unique_ptr<LayerStack>> open(std::shared_ptr<BlockDevice> base,
                                                  std::vector<std::shared_ptr<const Layer>> layers);

  ~LayerStack() override;

  BlockDevice& base() const noexcept { return *base_; }
  const std::vector<std::shared_ptr<const Layer>>& layers() const noexcept { return layers_; }

  SourceRun find(uint64_t offset_bytes, uint64_t max_bytes) const noexcept override;

 private:
  LayerStack() = default;
  void start_map() noexcept;
  void make_map() noexcept;
  SourceRun find_in_map(const LayerMap& map, uint64_t offset_bytes,
                        uint64_t max_bytes) const noexcept;
  SourceRun find_in_base(uint64_t offset_bytes, uint64_t max_bytes) const noexcept;

  std::shared_ptr<BlockDevice> base_;
  std::vector<std::shared_ptr<const Layer>> layers_;
  std::vector<std::unique_ptr<CheckedLayer>> layer_devices_;  // as layers_
  std::unique_ptr<const LayerMap> made_map_;                  // the thread's, until map_ says so
  std::atomic<const LayerMap*> map_{nullptr};
  std::thread map_maker_;
};

}  // namespace tidemark
