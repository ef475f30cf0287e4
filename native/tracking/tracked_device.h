// TrackedDevice: marks before it writes.
//
// A BlockDevice in front of another. Each write-class request passes the gate,
// marks its blocks in the live map, lets the captures save what it is about to
// overwrite, and only then goes to the backing. Failed and abandoned writes
// stay marked. A trim goes through only where the backing then reads zeroes;
// otherwise it is marked and answered without being passed on.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bitmap/dirty_bitmap.h"
#include "device/block_device.h"

namespace tidemark {

class Gate;

class TrackedDevice final : public BlockDevice {
 public:
  TrackedDevice(std::shared_ptr<BlockDevice> backing, std::shared_ptr<DirtyBitmap> bitmap);
  ~TrackedDevice() override;

  uint64_t size_bytes() const noexcept override;
  const DeviceTraits& traits() const noexcept override;
  void submit(IoRequest& request) noexcept override;
  std::vector<std::string> extent_contexts() const override;
  Status query_extents(std::string_view context, uint64_t offset_bytes, uint64_t length_bytes,
                       size_t max_extents, std::vector<DeviceExtent>& extents) override;

  DirtyBitmap& bitmap() noexcept;
  BlockDevice& backing() noexcept;

  // For take_checkpoint() alone.
  class Impl;
  Impl& impl() noexcept { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace tidemark
