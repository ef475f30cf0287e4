#include "nbd/reply_writer.h"

#include <cstring>

namespace tidemark::nbd {

namespace {

StructuredChunk chunk_header(ChunkType type, uint64_t cookie, size_t length_bytes) noexcept {
  return {kStructuredReplyMagic, kChunkDone, static_cast<uint16_t>(type), cookie,
          static_cast<uint32_t>(length_bytes)};
}

}  // namespace

size_t ReplyWriter::read_header_bytes() const noexcept {
  return is_structured_ ? sizeof(OffsetDataChunk) : sizeof(SimpleReply);
}

void ReplyWriter::read_done(const NbdRequest& request) {
  const size_t data_bytes = request.length_bytes;
  if (is_structured_) {
    const OffsetDataChunk header{
        chunk_header(ChunkType::kOffsetData, request.cookie, sizeof(be64) + data_bytes),
        request.offset_bytes};
    std::memcpy(request.reply, &header, sizeof header);
  } else {
    const SimpleReply header{kSimpleReplyMagic, static_cast<uint32_t>(WireError::kNone),
                             request.cookie};
    std::memcpy(request.reply, &header, sizeof header);
  }
  output_.queue(request.chunk, request.reply, read_header_bytes() + data_bytes);
}

void ReplyWriter::read_nothing(uint64_t cookie) {
  if (!is_structured_) return done(cookie);
  const StructuredChunk header = chunk_header(ChunkType::kNone, cookie, 0);
  is_intact_ &= output_.append(&header, sizeof header);
}

void ReplyWriter::error(Command command, uint64_t cookie, WireError error, std::string_view text) {
  const bool needs_chunk = command == Command::kRead || command == Command::kBlockStatus;
  if (is_structured_ && needs_chunk) return error_chunk(cookie, error, text);
  simple(cookie, error);
}

void ReplyWriter::simple(uint64_t cookie, WireError error) {
  const SimpleReply reply{kSimpleReplyMagic, static_cast<uint32_t>(error), cookie};
  is_intact_ &= output_.append(&reply, sizeof reply);
}

void ReplyWriter::error_chunk(uint64_t cookie, WireError error, std::string_view text) {
  const size_t length_bytes = sizeof(be32) + sizeof(be16) + text.size();
  const ErrorChunk chunk{chunk_header(ChunkType::kError, cookie, length_bytes),
                         static_cast<uint32_t>(error), static_cast<uint16_t>(text.size())};
  is_intact_ &= output_.append(&chunk, sizeof chunk);
  is_intact_ &= output_.append(text.data(), text.size());
}

}  // namespace tidemark::nbd
