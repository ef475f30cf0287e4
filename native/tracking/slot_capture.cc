#include "tracking/slot_capture.h"

#include "tracking/tracked_device_impl.h"

namespace tidemark {

SlotCapture::SlotCapture(std::shared_ptr<TrackedDevice> device, uint32_t slot)
    : device_(std::move(device)),
      slot_(slot),
      granularity_bytes_(device_->bitmap().granularity_bytes()) {}

uint64_t SlotCapture::disk_size_bytes() const noexcept {
  return device_->bitmap().disk_size_bytes();
}

std::optional<ByteExtent> SlotCapture::next_extent(uint64_t from_bytes,
                                                   uint64_t max_bytes) const noexcept {
  if (is_closed() || from_bytes >= disk_size_bytes()) return std::nullopt;
  return device_->bitmap().next_extent(MapId::in_flight(slot_), from_bytes, max_bytes);
}

Status SlotCapture::read(uint64_t offset_bytes, std::span<std::byte> into) {
  const uint64_t size = disk_size_bytes();
  if (offset_bytes > size || into.size() > size - offset_bytes) {
    return {ErrorCode::kInvalidArgument,
            "Cannot read the capture: because the range ends past the disk. Read inside its "
            "extents."};
  }
  if (is_closed()) {
    return {ErrorCode::kClosed, "Cannot read the capture: because it is closed. Take another."};
  }
  return read_inside(offset_bytes, into);
}

Status SlotCapture::query_allocation(uint64_t offset_bytes, uint64_t length_bytes,
                                     size_t max_extents, std::vector<DeviceExtent>& extents) {
  if (is_closed()) {
    return {ErrorCode::kClosed, "Cannot ask the capture: because it is closed. Take another."};
  }
  return device_->backing().query_extents("base:allocation", offset_bytes, length_bytes,
                                          max_extents, extents);
}

void SlotCapture::on_merged() noexcept {
  const DirtyBitmap& bitmap = device_->bitmap();
  const MapId map = MapId::in_flight(slot_);
  const uint64_t block_bytes = granularity_bytes_;
  dirty_bytes_ = bitmap.dirty_block_count(map) * block_bytes;
  const uint64_t tail_bytes = disk_size_bytes() % block_bytes;
  if (tail_bytes != 0 && bitmap.is_dirty(map, bitmap.block_count() - 1)) {
    dirty_bytes_ -= block_bytes - tail_bytes;
  }
  settle();
}

void SlotCapture::close() noexcept {
  if (is_closed_.exchange(true)) return;
  end();
  device_->impl().captures().vacate(slot_);
}

}  // namespace tidemark
