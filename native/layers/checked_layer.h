// CheckedLayer: a layer's data as a device, at the disk's offsets, of which no byte is read
// that its checksum does not vouch for: such a read fails with EBADMSG.
//
// Reads alone, each within one extent with data, as Layer::find() answers them. A read
// of whole granules is checked where it lies; of a part of one, all of it is read beside.
#pragma once

#include <memory>

#include "device/block_device.h"
#include "layers/layer.h"

namespace tidemark {

class CheckedLayer final : public BlockDevice {
 public:
  static Result<std::unique_ptr<CheckedLayer>> open(std::shared_ptr<const Layer> layer);

  uint64_t size_bytes() const noexcept override { return layer_->identity().disk_size_bytes; }
  const DeviceTraits& traits() const noexcept override { return file_->traits(); }
  void submit(IoRequest& request) noexcept override;

 private:
  CheckedLayer(std::shared_ptr<const Layer> layer, std::shared_ptr<BlockDevice> file) noexcept
      : layer_(std::move(layer)), file_(std::move(file)) {}

  static void finish_whole(IoRequest& request, void* context, uint64_t disk_offset_bytes,
                           int error) noexcept;

  const std::shared_ptr<const Layer> layer_;
  const std::shared_ptr<BlockDevice> file_;
};

}  // namespace tidemark
