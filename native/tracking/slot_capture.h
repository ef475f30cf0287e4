// SlotCapture: what every Capture of a tracked device has in common. It
// occupies its target's slot until closed, and lists the blocks of the slot's
// in-flight map.
#pragma once

#include <atomic>
#include <memory>

#include "tracking/capture.h"
#include "tracking/tracked_device.h"

namespace tidemark {

class SlotCapture : public Capture {
 public:
  // The slot is occupied already; this gives it back.
  SlotCapture(std::shared_ptr<TrackedDevice> device, uint32_t slot);
  ~SlotCapture() override = default;  // the most derived class has called close()

  uint64_t disk_size_bytes() const noexcept override;
  uint32_t granularity_bytes() const noexcept override { return granularity_bytes_; }
  uint64_t dirty_bytes() const noexcept override { return dirty_bytes_; }
  std::optional<ByteExtent> next_extent(uint64_t from_bytes,
                                        uint64_t max_bytes) const noexcept override;
  Status read(uint64_t offset_bytes, std::span<std::byte> into) final;
  Status query_allocation(uint64_t offset_bytes, uint64_t length_bytes, size_t max_extents,
                          std::vector<DeviceExtent>& extents) override;
  bool is_open() const noexcept final { return !is_closed(); }
  void close() noexcept final;

  // The cut, with the gate closed and drained: what it answers is to be dropped
  // once the gate is open again.
  virtual std::vector<std::shared_ptr<class FrozenBlocks>> publish() = 0;
  // The maps are merged: before anybody else gets hold of the capture.
  void on_merged() noexcept;

 protected:
  TrackedDevice& device() const noexcept { return *device_; }
  uint32_t slot() const noexcept { return slot_; }
  bool is_closed() const noexcept { return is_closed_.load(); }

 private:
  virtual Status read_inside(uint64_t offset_bytes, std::span<std::byte> into) = 0;
  virtual void settle() noexcept {}
  virtual void end() noexcept {}

  const std::shared_ptr<TrackedDevice> device_;
  const uint32_t slot_;
  const uint32_t granularity_bytes_;
  uint64_t dirty_bytes_ = 0;
  std::atomic<bool> is_closed_{false};
};

}  // namespace tidemark
