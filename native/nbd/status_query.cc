#include "nbd/status_query.h"

#include <algorithm>

namespace tidemark::nbd {

namespace {

constexpr size_t kMaximumExtents = 16384;  // a context and reply: 256 KiB at most
constexpr size_t kExtentsForOne = 64;      // neighbours that may be one extent

// With compact headers every length then fits the 32 bits of the request's own.
void normalize(const ClientRequest& request, std::vector<DeviceExtent>& extents) {
  uint64_t left_bytes = request.length_bytes;
  size_t count = 0;
  for (const DeviceExtent extent : extents) {
    const uint64_t length_bytes = std::min(extent.length_bytes, left_bytes);
    if (length_bytes == 0) continue;
    left_bytes -= length_bytes;
    if (count > 0 && extents[count - 1].flags == extent.flags) {
      extents[count - 1].length_bytes += length_bytes;
    } else {
      extents[count++] = DeviceExtent{length_bytes, extent.flags};
    }
  }
  extents.resize(std::min(count, kMaximumExtents));
}

}  // namespace

bool collect_extents(BlockDevice& device, const MetaContext& context, const ClientRequest& request,
                     std::vector<DeviceExtent>& extents) {
  const bool wants_one = (request.flags & kCommandReqOne) != 0;
  extents.clear();
  const Status status =
      device.query_extents(context.name, request.offset_bytes, request.length_bytes,
                           wants_one ? kExtentsForOne : kMaximumExtents, extents);
  if (!status.is_ok()) return false;
  normalize(request, extents);
  if (wants_one && !extents.empty()) extents.resize(1);
  return !extents.empty();
}

void StatusQuery::run() {
  for (const MetaContext* context : contexts) {
    std::vector<DeviceExtent> found;
    if (!collect_extents(device, *context, request, found)) return;
    extents.push_back(std::move(found));
  }
}

}  // namespace tidemark::nbd
