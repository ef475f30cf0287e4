// What several layers hold together: of each byte, which layer has the newest.
//
// Representation: a list of pieces sorted by disk offset, not overlapping. Two lists are
// laid over each other in one pass; many, in pairs. Cost: O(extents * log layers), and 32
// bytes of memory for each piece.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "layers/layer.h"

namespace tidemark {

struct LayerPiece {
  uint64_t disk_offset_bytes = 0;
  uint64_t length_bytes = 0;
  uint32_t layer = 0;  // its place in the list
  bool zero = false;

  uint64_t disk_end_bytes() const noexcept { return disk_offset_bytes + length_bytes; }
};

// Layers oldest first.
std::vector<LayerPiece> overlay_layers(const std::vector<std::shared_ptr<const Layer>>& layers);

}  // namespace tidemark
