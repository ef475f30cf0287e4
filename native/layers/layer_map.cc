#include "layers/layer_map.h"

#include <algorithm>

namespace tidemark {

LayerMap::Run LayerMap::find(uint64_t offset_bytes, uint64_t max_bytes) const noexcept {
  const auto piece = std::partition_point(
      pieces_.begin(), pieces_.end(),
      [&](const LayerPiece& each) { return each.disk_end_bytes() <= offset_bytes; });
  if (piece == pieces_.end()) return {max_bytes, nullptr};
  if (piece->disk_offset_bytes > offset_bytes) {
    return {std::min(max_bytes, piece->disk_offset_bytes - offset_bytes), nullptr};
  }
  return {std::min(max_bytes, piece->disk_end_bytes() - offset_bytes), &*piece};
}

}  // namespace tidemark
