#include "tracking/frozen_capture.h"

#include <algorithm>
#include <atomic>

#include "tracking/tracked_device_impl.h"

namespace tidemark {

FrozenCapture::FrozenCapture(std::shared_ptr<TrackedDevice> device, uint32_t slot,
                             std::shared_ptr<FrozenBlocks> frozen)
    : SlotCapture(std::move(device), slot), frozen_(std::move(frozen)) {}

void FrozenCapture::release(uint64_t offset_bytes, uint64_t length_bytes) noexcept {
  frozen_->release(offset_bytes, length_bytes);
}

// What the disk says now, and data wherever a write may have come since the cut. The
// disk is asked first: what it says of a write is told after the block's state changed.
Status FrozenCapture::query_allocation(uint64_t offset_bytes, uint64_t length_bytes,
                                       size_t max_extents, std::vector<DeviceExtent>& extents) {
  std::vector<DeviceExtent> now;
  Status status = SlotCapture::query_allocation(offset_bytes, length_bytes, max_extents, now);
  if (!status.is_ok()) return status;
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const size_t end_count = extents.size() + max_extents;
  for (const DeviceExtent& extent : now) {
    append_as_frozen(offset_bytes, extent, end_count, extents);
    if (extents.size() == end_count) break;
    offset_bytes += extent.length_bytes;
  }
  return frozen_->check_open();  // its states say nothing when it is not
}

void FrozenCapture::append_as_frozen(uint64_t offset_bytes, DeviceExtent extent, size_t end_count,
                                     std::vector<DeviceExtent>& extents) const {
  if ((extent.flags & kExtentZero) == 0) {
    extents.push_back({extent.length_bytes, 0});
    return;
  }
  while (extent.length_bytes > 0 && extents.size() < end_count) {
    uint64_t length_bytes = frozen_->untouched_bytes(offset_bytes, extent.length_bytes);
    const bool is_untouched = length_bytes > 0;
    const uint64_t block_rest = granularity_bytes() - offset_bytes % granularity_bytes();
    if (!is_untouched) length_bytes = std::min<uint64_t>(block_rest, extent.length_bytes);
    extents.push_back({length_bytes, is_untouched ? extent.flags : 0});
    offset_bytes += length_bytes;
    extent.length_bytes -= length_bytes;
  }
}

std::vector<std::shared_ptr<FrozenBlocks>> FrozenCapture::publish() {
  return device().impl().captures().publish(slot(), frozen_);
}

Status FrozenCapture::read_inside(uint64_t offset_bytes, std::span<std::byte> into) {
  return frozen_->read(offset_bytes, into);
}

}  // namespace tidemark
