#include "tracking/frozen_capture.h"

#include "tracking/tracked_device_impl.h"

namespace tidemark {

FrozenCapture::FrozenCapture(std::shared_ptr<TrackedDevice> device, uint32_t slot,
                             std::shared_ptr<FrozenBlocks> frozen)
    : SlotCapture(std::move(device), slot), frozen_(std::move(frozen)) {}

void FrozenCapture::release(uint64_t offset_bytes, uint64_t length_bytes) noexcept {
  frozen_->release(offset_bytes, length_bytes);
}

std::vector<std::shared_ptr<FrozenBlocks>> FrozenCapture::publish() {
  return device().impl().captures().publish(slot(), frozen_);
}

Status FrozenCapture::read_inside(uint64_t offset_bytes, std::span<std::byte> into) {
  return frozen_->read(offset_bytes, into);
}

}  // namespace tidemark
