#include "nbd/block_status.h"

#include <algorithm>

#include "nbd/byte_reader.h"

namespace tidemark::nbd {

size_t BlockStatusWriter::payload_bytes(size_t extent_count) const noexcept {
  return format_.is_extended()
             ? sizeof(BlockStatusExtendedHead) + extent_count * sizeof(BlockStatusExtendedExtent)
             : sizeof(be32) + extent_count * sizeof(BlockStatusExtent);
}

bool BlockStatusWriter::write(const ClientRequest& request, uint32_t context_id,
                              const std::vector<DeviceExtent>& extents, bool is_last) {
  const size_t payload = payload_bytes(extents.size());
  const size_t length_bytes = format_.chunk_header_bytes() + payload;
  ChunkRef chunk;
  std::byte* room = output_.reserve(length_bytes, chunk);
  if (room == nullptr) return false;
  const ChunkType type =
      format_.is_extended() ? ChunkType::kBlockStatusExtended : ChunkType::kBlockStatus;
  std::byte* at = format_.put_chunk_header(room, type, is_last,
                                           ReplyTo{request.cookie, request.offset_bytes}, payload);
  put_extents(at, context_id, extents);
  output_.queue(chunk, room, length_bytes);
  return true;
}

void BlockStatusWriter::put_extents(std::byte* at, uint32_t context_id,
                                    const std::vector<DeviceExtent>& extents) const noexcept {
  if (format_.is_extended()) {
    const auto count = static_cast<uint32_t>(extents.size());
    at = ReplyFormat::put(at, BlockStatusExtendedHead{context_id, count});
    for (const DeviceExtent& extent : extents) {
      at = ReplyFormat::put(at, BlockStatusExtendedExtent{extent.length_bytes, extent.flags});
    }
    return;
  }
  at = ReplyFormat::put(at, be32(context_id));
  for (const DeviceExtent& extent : extents) {
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
