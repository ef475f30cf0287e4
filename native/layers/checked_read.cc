#include "layers/checked_read.h"

#include <algorithm>

#include "layers/file_io.h"
#include "layers/granule_checks.h"

namespace tidemark {

namespace {

// `within_bytes` into the extent, where a granule begins; whole granules, but for its last.
Status read_granules(const Layer& layer, const LayerExtent& extent, uint64_t within_bytes,
                     std::span<std::byte> into, const std::string& what) {
  if (Status status = read_whole(layer.fd(), extent.file_offset_bytes + within_bytes, into, what);
      !status.is_ok()) {
    return status;
  }
  const auto damaged = first_damaged_granule(layer, extent, within_bytes, into);
  if (!damaged) return Status::ok();
  return {ErrorCode::kCorrupt, what + ": because the block at disk offset " +
                                   std::to_string(*damaged) +
                                   " differs from its checksum. Verify the replica."};
}

}  // namespace

Status read_checked(const Layer& layer, uint64_t disk_offset_bytes, std::span<std::byte> into,
                    std::vector<std::byte>& buffer, const std::string& what) {
  const LayerExtent extent = layer.extent_at(layer.first_extent_past(disk_offset_bytes));
  const uint64_t from_bytes = disk_offset_bytes - extent.disk_offset_bytes;
  const ExtentPart part{from_bytes, from_bytes + into.size()};
  const ExtentPart whole = whole_granules(layer, extent, part);
  if (whole == part) return read_granules(layer, extent, from_bytes, into, what);
  buffer.resize(whole.end_bytes - whole.from_bytes);
  if (Status status = read_granules(layer, extent, whole.from_bytes, buffer, what);
      !status.is_ok()) {
    return status;
  }
  const auto wanted = buffer.begin() + static_cast<ptrdiff_t>(from_bytes - whole.from_bytes);
  std::copy_n(wanted, into.size(), into.begin());
  return Status::ok();
}

}  // namespace tidemark
