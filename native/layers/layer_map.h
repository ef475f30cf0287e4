// LayerMap: of each byte, which of many layers has it, in one search.
//
// Representation: the layers' extents laid over each other (layer_overlay.h), sorted by
// disk offset. Workload: made once, in a second for some millions of extents; then a
// search for each run. Cost: O(log extents), and 32 bytes of memory for each piece.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "layers/layer_overlay.h"

namespace tidemark {

class LayerMap {
 public:
  struct Run {
    uint64_t length_bytes = 0;
    const LayerPiece* piece = nullptr;  // null: no layer has it
  };

  // Layers oldest first.
  explicit LayerMap(const std::vector<std::shared_ptr<const Layer>>& layers)
      : pieces_(overlay_layers(layers)) {}

  // From `offset` on, at most `max_bytes` (> 0) long.
  Run find(uint64_t offset_bytes, uint64_t max_bytes) const noexcept;

 private:
  const std::vector<LayerPiece> pieces_;
};

}  // namespace tidemark
