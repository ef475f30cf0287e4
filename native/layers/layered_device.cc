#include "layers/layered_device.h"

#include <algorithm>
#include <cerrno>

#include "common/byte_order.h"
#include "common/crc32c.h"
#include "layers/disk_content.h"
#include "layers/layer_format.h"
#include "layers/layer_stack.h"
#include "layers/scratch_change.h"
#include "layers/scratch_files.h"

namespace tidemark {

namespace {

constexpr uint32_t kLargestPreferredBlock = 64 * 1024;

class LayeredDevice final : public BlockDevice {
 public:
  LayeredDevice(uint64_t size_bytes, std::unique_ptr<LayerStack> below, OpenScratch scratch);

  uint64_t size_bytes() const noexcept override { return size_bytes_; }
  const DeviceTraits& traits() const noexcept override { return traits_; }
  void submit(IoRequest& request) noexcept override;
  Status query_extents(std::string_view context, uint64_t offset_bytes, uint64_t length_bytes,
                       size_t max_extents, std::vector<DeviceExtent>& extents) override;

 private:
  Result<DeviceExtent> extent_at(uint64_t offset_bytes, uint64_t max_bytes) const;

  const uint64_t size_bytes_;
  const std::unique_ptr<LayerStack> below_;
  const OpenScratch scratch_;
  const DiskContent content_;
  DeviceTraits traits_;
};

LayeredDevice::LayeredDevice(uint64_t size_bytes, std::unique_ptr<LayerStack> below,
                             OpenScratch scratch)
    : size_bytes_(size_bytes),
      below_(std::move(below)),
      scratch_(std::move(scratch)),
      content_(*below_, scratch_.scratch.get()) {
  traits_.minimum_block_bytes = below_->base().traits().minimum_block_bytes;
  traits_.read_only = scratch_.scratch == nullptr;
  traits_.rotational = below_->base().traits().rotational;
  traits_.trim_reads_zero = true;
  traits_.fast_zero = true;
  traits_.engine = "layers";
  if (scratch_.scratch != nullptr) {
    // Writes of whole granules need no fill.
    const auto granularity = static_cast<uint32_t>(scratch_.scratch->granularity_bytes());
    traits_.preferred_block_bytes =
        std::clamp(granularity, traits_.preferred_block_bytes, kLargestPreferredBlock);
  }
}

void LayeredDevice::submit(IoRequest& request) noexcept {
  assert(request.end_bytes() <= size_bytes_);
  if (request.op == IoOp::kRead) return content_.read(request);
  if (request.op == IoOp::kCache) return request.complete(0);
  Scratch* scratch = scratch_.scratch.get();
  if (scratch == nullptr) return request.complete(request.op == IoOp::kFlush ? 0 : EROFS);
  if (request.op == IoOp::kFlush) return scratch->flusher().flush(request);
  ScratchChange::start(request, *scratch, content_);
}

Result<DeviceExtent> LayeredDevice::extent_at(uint64_t offset_bytes, uint64_t max_bytes) const {
  const SourceRun run = content_.find(offset_bytes, max_bytes);
  if (run.device == nullptr) return DeviceExtent{run.length_bytes, kExtentHole | kExtentZero};
  if (run.device != &below_->base()) return DeviceExtent{run.length_bytes, 0};
  std::vector<DeviceExtent> of_base;
  const Status status = run.device->query_extents("base:allocation", run.device_offset_bytes,
                                                  run.length_bytes, 1, of_base);
  if (!status.is_ok()) return status;
  if (of_base.empty()) return DeviceExtent{run.length_bytes, 0};
  return DeviceExtent{std::min(run.length_bytes, of_base[0].length_bytes), of_base[0].flags};
}

Status LayeredDevice::query_extents(std::string_view context, uint64_t offset_bytes,
                                    uint64_t length_bytes, size_t max_extents,
                                    std::vector<DeviceExtent>& extents) {
  if (context != "base:allocation") {
    return BlockDevice::query_extents(context, offset_bytes, length_bytes, max_extents, extents);
  }
  const size_t first = extents.size();
  while (length_bytes > 0) {
    const Result<DeviceExtent> next = extent_at(offset_bytes, length_bytes);
    if (!next.is_ok()) return next.status();
    const DeviceExtent extent = next.value();
    if (extents.size() > first && extents.back().flags == extent.flags) {
      extents.back().length_bytes += extent.length_bytes;
    } else if (extents.size() - first < max_extents) {
      extents.push_back(extent);
    } else {
      break;
    }
    offset_bytes += extent.length_bytes;
    length_bytes -= extent.length_bytes;
  }
  return Status::ok();
}

Status invalid(const std::string& because) {
  return {ErrorCode::kInvalidArgument, "Cannot open layered device: because " + because + "."};
}

// The base's block must divide every place at which a read may be divided.
Status check_alignment(const LayeredDeviceParameters& parameters) {
  const uint64_t block_bytes = parameters.base->traits().minimum_block_bytes;
  bool divides =
      parameters.size_bytes % block_bytes == 0 && parameters.granularity_bytes % block_bytes == 0;
  for (const auto& layer : parameters.layers) {
    const LayerIdentity& identity = layer->identity();
    divides = divides && identity.granularity_bytes % block_bytes == 0 &&
              identity.disk_size_bytes % block_bytes == 0;
  }
  if (divides) return Status::ok();
  return {ErrorCode::kUnsupported,
          "Cannot open layered device: because its base takes only blocks of " +
              std::to_string(block_bytes) + " bytes. Open the base without direct I/O."};
}

Status check(const LayeredDeviceParameters& parameters) {
  if (parameters.base == nullptr) return invalid("it has no base");
  if (parameters.size_bytes == 0 || parameters.size_bytes > kLargestDiskBytes) {
    return invalid("its size is not the size of a disk");
  }
  if (!is_valid_granularity(parameters.granularity_bytes)) {
    return invalid("its granularity is no power of two from 512 B to 64 MiB");
  }
  if (parameters.size_bytes / parameters.granularity_bytes / GranuleStates::kGranulesPerPage >=
      UINT32_MAX) {
    return invalid("its granularity is too small for its size");
  }
  for (const auto& layer : parameters.layers) {
    if (layer == nullptr) return invalid("one of its layers is missing");
    if (layer->identity().disk == parameters.disk) continue;
    return {ErrorCode::kForeign, "Cannot open layered device: because a layer is of disk " +
                                     layer->identity().disk.to_string() + ", not of " +
                                     parameters.disk.to_string() +
                                     ". Give each disk its own layers."};
  }
  return check_alignment(parameters);
}

ScratchIdentity identity_of(const LayeredDeviceParameters& parameters) {
  ScratchIdentity identity;
  identity.disk = parameters.disk;
  identity.size_bytes = parameters.size_bytes;
  identity.granularity_bytes = parameters.granularity_bytes;
  identity.base_size_bytes = parameters.base->size_bytes();
  identity.layer_count = static_cast<uint32_t>(parameters.layers.size());
  for (const auto& layer : parameters.layers) {
    std::byte bytes[28];
    std::memcpy(bytes, layer->identity().lineage.bytes.data(), 16);
    store_le<uint64_t>(bytes + 16, layer->identity().sequence);
    store_le<uint32_t>(bytes + 24, layer->summary().checksum);
    identity.layers_checksum = crc32c(bytes, sizeof bytes, identity.layers_checksum);
  }
  return identity;
}

}  // namespace

Result<std::shared_ptr<BlockDevice>> open_layered_device(LayeredDeviceParameters parameters) {
  if (Status status = check(parameters); !status.is_ok()) return status;
  OpenScratch scratch;
  if (!parameters.scratch_path.empty()) {
    auto opened = open_scratch_files(parameters.scratch_path, identity_of(parameters));
    if (!opened.is_ok()) return opened.status();
    scratch = std::move(opened).value();
  }
  auto below = LayerStack::open(std::move(parameters.base), std::move(parameters.layers));
  if (!below.is_ok()) return below.status();
  return std::shared_ptr<BlockDevice>(std::make_shared<LayeredDevice>(
      parameters.size_bytes, std::move(below).value(), std::move(scratch)));
}

}  // namespace tidemark
