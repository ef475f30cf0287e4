// The extents of a segment while it is written.
//
// Representation: a tree by disk offset, neighbours that continue each other on
// the disk and in the file joined. Workload: appends, nearly always ascending,
// tens of thousands a segment; a peer may send any order. Cost: O(log n) each.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "layers/layer_format.h"

namespace tidemark {

class SegmentExtents {
 public:
  explicit SegmentExtents(uint32_t granularity_bytes) : granularity_bytes_(granularity_bytes) {}

  // Null when `extent` may be added, else the reason. A length that is no
  // multiple of the granularity says where the disk ends: nothing lies beyond.
  const char* check(uint64_t disk_offset_bytes, uint64_t length_bytes) const noexcept;

  // What check() allowed.
  void add(const LayerExtent& extent);

  std::vector<LayerExtent> sorted() const;

 private:
  uint64_t end_of_disk_known_bytes() const noexcept;
  bool join_previous(const LayerExtent& extent);

  uint32_t granularity_bytes_;
  std::map<uint64_t, LayerExtent> by_disk_offset_;
};

}  // namespace tidemark
