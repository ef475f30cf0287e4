#include "layers/segment_extents.h"

#include <iterator>

namespace tidemark {

// The highest extent tells: only the disk's last block may be partial.
uint64_t SegmentExtents::end_of_disk_known_bytes() const noexcept {
  if (by_disk_offset_.empty()) return kLargestDiskBytes;
  const LayerExtent& last = by_disk_offset_.rbegin()->second;
  return last.length_bytes % granularity_bytes_ != 0 ? last.disk_end_bytes() : kLargestDiskBytes;
}

const char* SegmentExtents::check(uint64_t disk_offset_bytes,
                                  uint64_t length_bytes) const noexcept {
  if (length_bytes == 0) return "the length is 0";
  if (disk_offset_bytes % granularity_bytes_ != 0) return "the offset is inside a block";
  const uint64_t disk_end_bytes = end_of_disk_known_bytes();
  if (disk_offset_bytes > disk_end_bytes || length_bytes > disk_end_bytes - disk_offset_bytes) {
    return "the range ends beyond the disk";
  }
  const auto after = by_disk_offset_.lower_bound(disk_offset_bytes);
  if (after != by_disk_offset_.end()) {
    if (length_bytes % granularity_bytes_ != 0) return "a partial block is not the disk's last";
    if (after->first < disk_offset_bytes + length_bytes) return "the range overlaps another";
  }
  if (after != by_disk_offset_.begin() &&
      std::prev(after)->second.disk_end_bytes() > disk_offset_bytes) {
    return "the range overlaps another";
  }
  return nullptr;
}

bool SegmentExtents::join_previous(const LayerExtent& extent) {
  const auto after = by_disk_offset_.lower_bound(extent.disk_offset_bytes);
  if (after == by_disk_offset_.begin()) return false;
  LayerExtent& previous = std::prev(after)->second;
  if (previous.disk_end_bytes() != extent.disk_offset_bytes) return false;
  if (previous.is_zero() != extent.is_zero()) return false;
  if (!extent.is_zero() && previous.file_end_bytes() != extent.file_offset_bytes) return false;
  previous.length_bytes += extent.length_bytes;
  return true;
}

void SegmentExtents::add(const LayerExtent& extent) {
  if (!join_previous(extent)) by_disk_offset_.emplace(extent.disk_offset_bytes, extent);
}

std::vector<LayerExtent> SegmentExtents::sorted() const {
  std::vector<LayerExtent> extents;
  extents.reserve(by_disk_offset_.size());
  for (const auto& [offset, extent] : by_disk_offset_) extents.push_back(extent);
  return extents;
}

}  // namespace tidemark
