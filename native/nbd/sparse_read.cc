#include "nbd/sparse_read.h"

#include <algorithm>

namespace tidemark::nbd {

namespace {

// Cuts the extents to the request, and joins what has the same meaning here. False
// when they do not cover it.
bool fit(std::vector<DeviceExtent>& extents, uint64_t length_bytes) {
  size_t count = 0;
  for (const DeviceExtent extent : extents) {
    const uint64_t part_bytes = std::min(extent.length_bytes, length_bytes);
    if (part_bytes == 0) continue;
    length_bytes -= part_bytes;
    if (count > 0 && is_zero(extents[count - 1]) == is_zero(extent)) {
      extents[count - 1].length_bytes += part_bytes;
    } else {
      extents[count++] = {part_bytes, extent.flags};
    }
  }
  extents.resize(count);
  return length_bytes == 0;
}

}  // namespace

bool SparseReadPlanner::is_paused() noexcept {
  if (pause_left_ == 0) return false;
  --pause_left_;
  return true;
}

void SparseReadPlanner::found_nothing() noexcept {
  pause_ = std::clamp(pause_ * 2, 1U, kMaximumPause);
  pause_left_ = pause_;
}

bool SparseReadPlanner::plan(BlockDevice& device, const ClientRequest& request,
                             std::vector<DeviceExtent>& extents) {
  if (is_paused()) return false;
  extents.clear();
  const Status status = device.query_extents("base:allocation", request.offset_bytes,
                                             request.length_bytes, kMaximumParts, extents);
  const bool has_zeroes = status.is_ok() && fit(extents, request.length_bytes) &&
                          std::any_of(extents.begin(), extents.end(), is_zero);
  if (!has_zeroes) {
    found_nothing();
    return false;
  }
  pause_ = 0;
  return true;
}

}  // namespace tidemark::nbd
