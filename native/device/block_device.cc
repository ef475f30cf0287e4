#include "device/block_device.h"

namespace tidemark {

Status BlockDevice::resize(uint64_t /*size_bytes*/) {
  return {ErrorCode::kUnsupported,
          "Cannot resize the disk: because what it lies on cannot be resized from here. Grow that, "
          "and open the disk again."};
}

Status BlockDevice::query_extents(std::string_view context, uint64_t /*offset_bytes*/,
                                  uint64_t length_bytes, size_t max_extents,
                                  std::vector<DeviceExtent>& extents) {
  if (context != "base:allocation") {
    return {ErrorCode::kNotFound, "unknown extent context " + std::string(context)};
  }
  if (max_extents > 0) extents.push_back({length_bytes, 0});
  return Status::ok();
}

}  // namespace tidemark
