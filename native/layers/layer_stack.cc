#include "layers/layer_stack.h"

#include <algorithm>
#include <new>
#include <system_error>

namespace tidemark {

namespace {

constexpr size_t kLayersWithoutMap = 4;

}  // namespace

Result<std::unique_ptr<LayerStack>> LayerStack::open(
    std::shared_ptr<BlockDevice> base, std::vector<std::shared_ptr<const Layer>> layers) {
  auto stack = std::unique_ptr<LayerStack>(new LayerStack());
  for (const auto& layer : layers) {
    auto device = CheckedLayer::open(layer);
    if (!device.is_ok()) return device.status();
    stack->layer_devices_.push_back(std::move(device).value());
  }
  stack->base_ = std::move(base);
  stack->layers_ = std::move(layers);
  if (stack->layers_.size() > kLayersWithoutMap) stack->start_map();
  return stack;
}

LayerStack::~LayerStack() {
  if (map_maker_.joinable()) map_maker_.join();
}

// Without a thread or memory for it the layers are searched one by one, as before.
void LayerStack::start_map() noexcept {
  try {
    map_maker_ = std::thread([this] { make_map(); });
  } catch (const std::system_error&) {
  }
}

void LayerStack::make_map() noexcept {
  try {
    made_map_ = std::make_unique<const LayerMap>(layers_);
    map_.store(made_map_.get(), std::memory_order_release);
  } catch (const std::bad_alloc&) {
  }
}

SourceRun LayerStack::find_in_base(uint64_t offset_bytes, uint64_t max_bytes) const noexcept {
  const uint64_t base_bytes = base_->size_bytes();
  if (offset_bytes >= base_bytes) return {max_bytes, nullptr, 0};
  return {std::min(max_bytes, base_bytes - offset_bytes), base_.get(), offset_bytes};
}

SourceRun LayerStack::find_in_map(const LayerMap& map, uint64_t offset_bytes,
                                  uint64_t max_bytes) const noexcept {
  const LayerMap::Run run = map.find(offset_bytes, max_bytes);
  if (run.piece == nullptr) return find_in_base(offset_bytes, run.length_bytes);
  if (run.piece->zero) return {run.length_bytes, nullptr, 0};
  const uint32_t place = run.piece->layer;
  const Layer::Run in_layer = layers_[place]->find(offset_bytes, run.length_bytes);
  return {in_layer.length_bytes, layer_devices_[place].get(), offset_bytes};
}

SourceRun LayerStack::find(uint64_t offset_bytes, uint64_t max_bytes) const noexcept {
  const LayerMap* map = map_.load(std::memory_order_acquire);
  if (map != nullptr) return find_in_map(*map, offset_bytes, max_bytes);
  for (size_t i = layers_.size(); i-- > 0;) {
    const Layer::Run run = layers_[i]->find(offset_bytes, max_bytes);
    max_bytes = run.length_bytes;
    if (!run.present) continue;
    if (run.zero) return {max_bytes, nullptr, 0};
    return {max_bytes, layer_devices_[i].get(), offset_bytes};
  }
  return find_in_base(offset_bytes, max_bytes);
}

}  // namespace tidemark
