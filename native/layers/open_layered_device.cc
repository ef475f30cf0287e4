#include "layers/open_layered_device.h"

#include <cstring>

#include "common/byte_order.h"
#include "common/crc32c.h"
#include "layers/fold_files.h"
#include "layers/layer_format.h"

namespace tidemark {

namespace {

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

Result<std::shared_ptr<LayeredDevice>> make_device(LayeredDeviceParameters parameters,
                                                   OpenScratch scratch) {
  auto below = LayerStack::open(std::move(parameters.base), std::move(parameters.layers));
  if (!below.is_ok()) return below.status();
  return std::make_shared<LayeredDevice>(parameters.size_bytes, std::move(below).value(),
                                         std::move(scratch), std::move(parameters.base_path));
}

// The base as it is by now is what is below the layers, too.
Result<std::shared_ptr<LayeredDevice>> resume_fold(LayeredDeviceParameters parameters) {
  auto fold =
      open_fold_files(parameters.scratch_path, identity_of(parameters), parameters.base_path);
  if (!fold.is_ok()) return fold.status();
  parameters.base = fold.value().base_device;
  auto device = make_device(std::move(parameters), std::move(fold.value().scratch));
  if (!device.is_ok()) return device;
  device.value()->start_folding(std::move(fold.value().base));
  device.value()->scratch_is_durable();  // nothing was read of it that was not
  return device;
}

}  // namespace

Result<std::shared_ptr<LayeredDevice>> open_layered_device(LayeredDeviceParameters parameters) {
  if (Status status = check(parameters); !status.is_ok()) return status;
  if (parameters.scratch_path.empty()) return make_device(std::move(parameters), {});
  if (has_fold_begun(parameters.scratch_path)) return resume_fold(std::move(parameters));
  auto scratch = open_scratch_files(parameters.scratch_path, identity_of(parameters),
                                    parameters.scratch_budget);
  if (!scratch.is_ok()) return scratch.status();
  return make_device(std::move(parameters), std::move(scratch).value());
}

}  // namespace tidemark
