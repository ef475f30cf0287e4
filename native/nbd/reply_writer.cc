#include "nbd/reply_writer.h"

#include <cstring>

namespace tidemark::nbd {

void ReplyWriter::read_done(const NbdRequest& request, bool is_last) {
  const size_t data_bytes = request.length_bytes;
  if (has_chunks()) {
    std::byte* at = format_.put_chunk_header(request.reply, ChunkType::kOffsetData, is_last,
                                             request.reply_to, sizeof(be64) + data_bytes);
    ReplyFormat::put(at, be64(request.offset_bytes));
  } else {
    ReplyFormat::put(request.reply,
                     SimpleReply{kSimpleReplyMagic, static_cast<uint32_t>(WireError::kNone),
                                 request.reply_to.cookie});
  }
  output_.queue(request.chunk, request.reply, read_header_bytes() + data_bytes);
}

void ReplyWriter::read_nothing(const ReplyTo& to) {
  return has_chunks() ? empty_chunk(to) : simple(to.cookie, WireError::kNone);
}

void ReplyWriter::read_hole(const ReplyTo& to, uint64_t offset_bytes, uint32_t length_bytes,
                            bool is_last) {
  std::byte* at = begin(format_.chunk_header_bytes() + sizeof(OffsetHole));
  if (at == nullptr) return;
  at = format_.put_chunk_header(at, ChunkType::kOffsetHole, is_last, to, sizeof(OffsetHole));
  ReplyFormat::put(at, OffsetHole{offset_bytes, length_bytes});
}

void ReplyWriter::done(const ReplyTo& to) {
  return format_.is_extended() ? empty_chunk(to) : simple(to.cookie, WireError::kNone);
}

void ReplyWriter::error(Command command, const ReplyTo& to, WireError error,
                        std::string_view text) {
  const bool needs_chunk = command == Command::kRead || command == Command::kBlockStatus;
  const bool is_chunk = format_.is_extended() || (has_chunks() && needs_chunk);
  return is_chunk ? error_chunk(to, error, text) : simple(to.cookie, error);
}

void ReplyWriter::simple(uint64_t cookie, WireError error) {
  std::byte* at = begin(sizeof(SimpleReply));
  if (at == nullptr) return;
  ReplyFormat::put(at, SimpleReply{kSimpleReplyMagic, static_cast<uint32_t>(error), cookie});
}

void ReplyWriter::empty_chunk(const ReplyTo& to) {
  std::byte* at = begin(format_.chunk_header_bytes());
  if (at == nullptr) return;
  format_.put_chunk_header(at, ChunkType::kNone, true, to, 0);
}

void ReplyWriter::error_chunk(const ReplyTo& to, WireError error, std::string_view text) {
  const size_t payload_bytes = sizeof(ErrorText) + text.size();
  std::byte* at = begin(format_.chunk_header_bytes() + payload_bytes);
  if (at == nullptr) return;
  at = format_.put_chunk_header(at, ChunkType::kError, true, to, payload_bytes);
  at = ReplyFormat::put(
      at, ErrorText{static_cast<uint32_t>(error), static_cast<uint16_t>(text.size())});
  std::memcpy(at, text.data(), text.size());
}

// Queued already: it is filled before anything is sent.
std::byte* ReplyWriter::begin(size_t length_bytes) noexcept {
  ChunkRef chunk;
  std::byte* room = output_.reserve(length_bytes, chunk);
  if (room == nullptr) {
    is_intact_ = false;
    return nullptr;
  }
  output_.queue(chunk, room, length_bytes);
  return room;
}

}  // namespace tidemark::nbd
