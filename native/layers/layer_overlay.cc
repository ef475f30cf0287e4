#include "layers/layer_overlay.h"

#include <algorithm>
#include <utility>

namespace tidemark {

namespace {

using Pieces = std::vector<LayerPiece>;

Pieces pieces_of(const Layer& layer, uint32_t place) {
  Pieces pieces;
  const uint64_t count = layer.summary().extent_count;
  pieces.reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    const LayerExtent extent = layer.extent_at(i);
    pieces.push_back({extent.disk_offset_bytes, extent.length_bytes, place, extent.is_zero()});
  }
  return pieces;
}

void drop_front(LayerPiece& piece, uint64_t length_bytes) {
  piece.disk_offset_bytes += length_bytes;
  piece.length_bytes -= length_bytes;
}

// Where both have something, `newer` holds.
Pieces lay_over(const Pieces& newer, const Pieces& older) {
  Pieces result;
  result.reserve(newer.size() + older.size());
  auto next = newer.begin();
  for (LayerPiece piece : older) {
    while (piece.length_bytes > 0) {
      while (next != newer.end() && next->disk_end_bytes() <= piece.disk_offset_bytes) {
        result.push_back(*next++);
      }
      const uint64_t covered_from_bytes =
          next == newer.end() ? piece.disk_end_bytes()
                              : std::min(next->disk_offset_bytes, piece.disk_end_bytes());
      if (covered_from_bytes > piece.disk_offset_bytes) {
        result.push_back(piece);
        result.back().length_bytes = covered_from_bytes - piece.disk_offset_bytes;
        drop_front(piece, result.back().length_bytes);
      } else {
        drop_front(piece, std::min(next->disk_end_bytes(), piece.disk_end_bytes()) -
                              piece.disk_offset_bytes);
      }
    }
  }
  result.insert(result.end(), next, newer.end());
  return result;
}

}  // namespace

std::vector<LayerPiece> overlay_layers(const std::vector<std::shared_ptr<const Layer>>& layers) {
  std::vector<Pieces> lists;
  for (const auto& layer : layers) {
    lists.push_back(pieces_of(*layer, static_cast<uint32_t>(lists.size())));
  }
  while (lists.size() > 1) {
    std::vector<Pieces> joined;
    for (size_t i = 0; i + 1 < lists.size(); i += 2) {
      joined.push_back(lay_over(lists[i + 1], lists[i]));
    }
    if (lists.size() % 2 == 1) joined.push_back(std::move(lists.back()));
    lists = std::move(joined);
  }
  return lists.empty() ? Pieces{} : std::move(lists.front());
}

}  // namespace tidemark
