#include "layers/checked_read.h"

#include <algorithm>

#include "common/crc32c.h"
#include "layers/file_io.h"

namespace tidemark {

namespace {

// `within_bytes` into the extent, where a granule begins; whole granules, but for its last.
Status read_granules(const Layer& layer, const LayerExtent& extent, uint64_t within_bytes,
                     std::span<std::byte> into, const std::string& what) {
  const uint32_t granularity = layer.identity().granularity_bytes;
  if (Status status = read_whole(layer.fd(), extent.file_offset_bytes + within_bytes, into, what);
      !status.is_ok()) {
    return status;
  }
  uint64_t checksum_index = extent.first_checksum_index + within_bytes / granularity;
  uint64_t disk_offset_bytes = extent.disk_offset_bytes + within_bytes;
  for (auto left = into; !left.empty(); ++checksum_index) {
    const auto granule = left.first(std::min<size_t>(left.size(), granularity));
    if (crc32c(granule.data(), granule.size()) != layer.checksum_at(checksum_index)) {
      return {ErrorCode::kCorrupt, what + ": because the block at disk offset " +
                                       std::to_string(disk_offset_bytes) +
                                       " differs from its checksum. Verify the replica."};
    }
    disk_offset_bytes += granule.size();
    left = left.subspan(granule.size());
  }
  return Status::ok();
}

}  // namespace

Status read_checked(const Layer& layer, uint64_t disk_offset_bytes, std::span<std::byte> into,
                    std::vector<std::byte>& buffer, const std::string& what) {
  const LayerExtent extent = layer.extent_at(layer.first_extent_past(disk_offset_bytes));
  const uint64_t granularity = layer.identity().granularity_bytes;
  const uint64_t from_bytes = disk_offset_bytes - extent.disk_offset_bytes;
  const uint64_t end_bytes = from_bytes + into.size();
  const uint64_t first_bytes = from_bytes / granularity * granularity;
  const uint64_t last_bytes =
      std::min(extent.length_bytes, (end_bytes + granularity - 1) / granularity * granularity);
  if (first_bytes == from_bytes && last_bytes == end_bytes) {
    return read_granules(layer, extent, from_bytes, into, what);
  }
  buffer.resize(last_bytes - first_bytes);
  if (Status status = read_granules(layer, extent, first_bytes, buffer, what); !status.is_ok()) {
    return status;
  }
  std::copy_n(buffer.begin() + static_cast<ptrdiff_t>(from_bytes - first_bytes), into.size(),
              into.begin());
  return Status::ok();
}

}  // namespace tidemark
