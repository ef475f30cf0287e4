#include "nbd/block_status.h"

#include <algorithm>

#include "nbd/byte_reader.h"

namespace tidemark::nbd {

WireError BlockStatusQuery::answer(std::span<const MetaContext* const> contexts,
                                   const ClientRequest& request) {
  for (const MetaContext* const& context : contexts) {
    if (!collect(*context, request)) return WireError::kIo;
    const bool is_last = &context == &contexts.back();
    if (!queue_chunk(request, context->id, is_last)) return WireError::kIo;
  }
  return WireError::kNone;
}

bool BlockStatusQuery::collect(const MetaContext& context, const ClientRequest& request) {
  const bool wants_one = (request.flags & kCommandReqOne) != 0;
  extents_.clear();
  const Status status =
      device_.query_extents(context.name, request.offset_bytes, request.length_bytes,
                            wants_one ? kExtentsForOne : kMaximumExtents, extents_);
  if (!status.is_ok()) return false;
  normalize(request);
  if (wants_one && !extents_.empty()) extents_.resize(1);
  return !extents_.empty();
}

// Neighbours of equal flags become one, nothing reaches past the request: so with
// compact headers every length fits the 32 bits of the request's own.
void BlockStatusQuery::normalize(const ClientRequest& request) {
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

size_t BlockStatusQuery::payload_bytes() const noexcept {
  return format_.is_extended()
             ? sizeof(BlockStatusExtendedHead) + extents_.size() * sizeof(BlockStatusExtendedExtent)
             : sizeof(be32) + extents_.size() * sizeof(BlockStatusExtent);
}

bool BlockStatusQuery::queue_chunk(const ClientRequest& request, uint32_t context_id,
                                   bool is_last) {
  const size_t length_bytes = format_.chunk_header_bytes() + payload_bytes();
  ChunkRef chunk;
  std::byte* room = output_.reserve(length_bytes, chunk);
  if (room == nullptr) return false;
  const ChunkType type =
      format_.is_extended() ? ChunkType::kBlockStatusExtended : ChunkType::kBlockStatus;
  std::byte* at = format_.put_chunk_header(
      room, type, is_last, ReplyTo{request.cookie, request.offset_bytes}, payload_bytes());
  put_extents(at, context_id);
  output_.queue(chunk, room, length_bytes);
  return true;
}

void BlockStatusQuery::put_extents(std::byte* at, uint32_t context_id) const noexcept {
  if (format_.is_extended()) {
    const auto count = static_cast<uint32_t>(extents_.size());
    at = ReplyFormat::put(at, BlockStatusExtendedHead{context_id, count});
    for (const DeviceExtent& extent : extents_) {
      at = ReplyFormat::put(at, BlockStatusExtendedExtent{extent.length_bytes, extent.flags});
    }
    return;
  }
  at = ReplyFormat::put(at, be32(context_id));
  for (const DeviceExtent& extent : extents_) {
    const auto length_bytes = static_cast<uint32_t>(extent.length_bytes);
    at = ReplyFormat::put(at, BlockStatusExtent{length_bytes, extent.flags});
  }
}

bool take_status_filter(std::span<const std::byte> payload, const std::vector<MetaContext>& all,
                        uint64_t& length_bytes, std::vector<const MetaContext*>& chosen) {
  ByteReader reader(payload);
  length_bytes = reader.take<uint64_t>();
  while (reader.is_ok() && reader.rest_bytes() > 0) {
    const auto id = reader.take<uint32_t>();
    const auto found = std::find_if(all.begin(), all.end(),
                                    [id](const MetaContext& context) { return context.id == id; });
    if (found == all.end() || std::find(chosen.begin(), chosen.end(), &*found) != chosen.end()) {
      return false;
    }
    chosen.push_back(&*found);
  }
  return reader.is_ok() && !chosen.empty();
}

}  // namespace tidemark::nbd
