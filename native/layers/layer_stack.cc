#include "layers/layer_stack.h"

#include <algorithm>

#include "device/file_device.h"

namespace tidemark {

Result<std::unique_ptr<LayerStack>> LayerStack::open(
    std::shared_ptr<BlockDevice> base, std::vector<std::shared_ptr<const Layer>> layers) {
  auto stack = std::unique_ptr<LayerStack>(new LayerStack());
  for (const auto& layer : layers) {
    FileDeviceParameters parameters;
    // The very file whose index is mapped, even when its name is gone by now.
    parameters.path = "/proc/self/fd/" + std::to_string(layer->fd());
    parameters.read_only = true;
    auto file = open_file_device(parameters);
    if (!file.is_ok()) return file.status();
    stack->layer_files_.push_back(std::move(file).value());
  }
  stack->base_ = std::move(base);
  stack->layers_ = std::move(layers);
  return stack;
}

SourceRun LayerStack::find(uint64_t offset_bytes, uint64_t max_bytes) const noexcept {
  for (size_t i = layers_.size(); i-- > 0;) {
    const Layer::Run run = layers_[i]->find(offset_bytes, max_bytes);
    max_bytes = run.length_bytes;
    if (!run.present) continue;
    if (run.zero) return {max_bytes, nullptr, 0};
    return {max_bytes, layer_files_[i].get(), run.file_offset_bytes};
  }
  const uint64_t base_bytes = base_->size_bytes();
  if (offset_bytes >= base_bytes) return {max_bytes, nullptr, 0};
  return {std::min(max_bytes, base_bytes - offset_bytes), base_.get(), offset_bytes};
}

}  // namespace tidemark
