#include "tracking/allocated_extents.h"

namespace tidemark {

namespace {

constexpr size_t kExtentsAtOnce = 1024;

void add(std::vector<ByteExtent>& found, uint64_t offset_bytes, uint64_t length_bytes) {
  if (!found.empty() && found.back().offset_bytes + found.back().length_bytes == offset_bytes) {
    found.back().length_bytes += length_bytes;
  } else {
    found.push_back({offset_bytes, length_bytes});
  }
}

}  // namespace

Result<std::vector<ByteExtent>> allocated_extents(BlockDevice& device) {
  std::vector<ByteExtent> found;
  std::vector<DeviceExtent> extents;
  const uint64_t size_bytes = device.size_bytes();
  uint64_t offset_bytes = 0;
  while (offset_bytes < size_bytes) {
    extents.clear();
    Status status = device.query_extents("base:allocation", offset_bytes, size_bytes - offset_bytes,
                                         kExtentsAtOnce, extents);
    if (!status.is_ok()) return status;
    if (extents.empty()) {
      return Status(ErrorCode::kIo, "Cannot scan the disk: because it names no extents.");
    }
    for (const DeviceExtent& extent : extents) {
      if ((extent.flags & kExtentZero) == 0) add(found, offset_bytes, extent.length_bytes);
      offset_bytes += extent.length_bytes;
    }
  }
  return found;
}

}  // namespace tidemark
