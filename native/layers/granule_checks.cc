#include "layers/granule_checks.h"

#include <algorithm>

#include "common/crc32c.h"

namespace tidemark {

std::optional<uint64_t> first_damaged_granule(const Layer& layer, const LayerExtent& extent,
                                              uint64_t within_bytes,
                                              std::span<const std::byte> data) noexcept {
  const uint32_t granularity = layer.identity().granularity_bytes;
  uint64_t checksum_index = extent.first_checksum_index + within_bytes / granularity;
  uint64_t disk_offset_bytes = extent.disk_offset_bytes + within_bytes;
  for (auto left = data; !left.empty(); ++checksum_index) {
    const auto granule = left.first(std::min<size_t>(left.size(), granularity));
    if (crc32c(granule.data(), granule.size()) != layer.checksum_at(checksum_index)) {
      return disk_offset_bytes;
    }
    disk_offset_bytes += granule.size();
    left = left.subspan(granule.size());
  }
  return std::nullopt;
}

ExtentPart whole_granules(const Layer& layer, const LayerExtent& extent, ExtentPart part) noexcept {
  const uint64_t granularity = layer.identity().granularity_bytes;
  const uint64_t end_bytes = (part.end_bytes + granularity - 1) / granularity * granularity;
  return {part.from_bytes / granularity * granularity, std::min(extent.length_bytes, end_bytes)};
}

}  // namespace tidemark
