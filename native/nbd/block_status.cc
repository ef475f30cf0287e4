#include "nbd/block_status.h"

#include <algorithm>
#include <cstring>

namespace tidemark::nbd {

WireError BlockStatusQuery::answer(BlockDevice& device, const std::vector<MetaContext>& contexts,
                                   const RequestHeader& request, OutputQueue& output) {
  for (const MetaContext& context : contexts) {
    if (!collect(device, context, request)) return WireError::kIo;
    const bool is_last = &context == &contexts.back();
    if (!queue_chunk(request, context.id, is_last, output)) return WireError::kIo;
  }
  return WireError::kNone;
}

bool BlockStatusQuery::collect(BlockDevice& device, const MetaContext& context,
                               const RequestHeader& request) {
  const bool wants_one = (request.flags & kCommandReqOne) != 0;
  extents_.clear();
  const Status status =
      device.query_extents(context.name, request.offset_bytes, request.length_bytes,
                           wants_one ? kExtentsForOne : kMaximumExtents, extents_);
  if (!status.is_ok()) return false;
  normalize(request);
  if (wants_one && !extents_.empty()) extents_.resize(1);
  return !extents_.empty();
}

// Neighbours of equal flags become one, nothing reaches past the request: so
// every length fits the 32 bits of the request's own.
void BlockStatusQuery::normalize(const RequestHeader& request) {
  uint64_t left_bytes = request.length_bytes;
  size_t count = 0;
  for (const DeviceExtent extent : extents_) {
    const uint64_t length_bytes = std::min(extent.length_bytes, left_bytes);
    if (length_bytes == 0) continue;
    left_bytes -= length_bytes;
    if (count > 0 && extents_[count - 1].flags == extent.flags) {
      extents_[count - 1].length_bytes += length_bytes;
    } else {
      extents_[count++] = DeviceExtent{length_bytes, extent.flags};
    }
  }
  extents_.resize(std::min(count, kMaximumExtents));
}

bool BlockStatusQuery::queue_chunk(const RequestHeader& request, uint32_t context_id, bool is_last,
                                   OutputQueue& output) const {
  const size_t payload_bytes = sizeof(be32) + extents_.size() * sizeof(BlockStatusExtent);
  const size_t length_bytes = sizeof(StructuredChunk) + payload_bytes;
  ChunkRef chunk;
  std::byte* room = output.reserve(length_bytes, chunk);
  if (room == nullptr) return false;
  const BlockStatusChunk header{
      StructuredChunk{kStructuredReplyMagic, is_last ? kChunkDone : uint16_t{0},
                      static_cast<uint16_t>(ChunkType::kBlockStatus), request.cookie,
                      static_cast<uint32_t>(payload_bytes)},
      context_id};
  std::memcpy(room, &header, sizeof header);
  std::byte* at = room + sizeof header;
  for (const DeviceExtent& extent : extents_) {
    const BlockStatusExtent wire{static_cast<uint32_t>(extent.length_bytes), extent.flags};
    std::memcpy(at, &wire, sizeof wire);
    at += sizeof wire;
  }
  output.queue(chunk, room, length_bytes);
  return true;
}

}  // namespace tidemark::nbd
