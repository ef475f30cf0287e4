#include "device/nbd_reply_reader.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace tidemark {

namespace {

using nbd::ChunkType;
using nbd::Command;

constexpr size_t kBufferBytes = 128 * 1024;
// From here on a payload is received where it belongs rather than copied there.
constexpr size_t kDirectBytes = 16 * 1024;
constexpr uint32_t kMaximumErrorChunkBytes = 8 * 1024;
constexpr uint32_t kMaximumExtents = 1U << 20;

// The protocol's numbers are Linux's; what it does not know is an I/O error.
int errno_of(uint32_t wire_error) noexcept {
  switch (wire_error) {
    case EPERM:
    case EIO:
    case ENOMEM:
    case EINVAL:
    case ENOSPC:
    case EOVERFLOW:
    case ENOTSUP:
    case ESHUTDOWN:
      return static_cast<int>(wire_error);
    default:
      return EIO;
  }
}

}  // namespace

NbdReplyReader::NbdReplyReader(bool is_structured, std::optional<uint32_t> allocation_context,
                               NbdPartsInFlight& parts)
    : is_structured_(is_structured),
      allocation_context_(allocation_context),
      parts_(parts),
      buffer_(std::make_unique_for_overwrite<std::byte[]>(kBufferBytes)) {}

NbdReplyReader::Result NbdReplyReader::receive(int fd) {
  for (;;) {
    // A payload under way has used the buffer up.
    const bool is_direct = payload_left_bytes_ >= kDirectBytes;
    std::copy(buffer_.get() + begin_, buffer_.get() + end_, buffer_.get());
    end_ -= std::exchange(begin_, 0);
    iovec room[] = {{payload_to_, is_direct ? payload_left_bytes_ : 0},
                    {buffer_.get() + end_, kBufferBytes - end_}};
    msghdr message{};
    message.msg_iov = is_direct ? room : room + 1;
    message.msg_iovlen = is_direct ? 2 : 1;
    const ssize_t received = ::recvmsg(fd, &message, MSG_DONTWAIT);
    if (received < 0 && errno == EINTR) continue;
    if (received < 0 && errno == EAGAIN) return Result::kGoOn;
    if (received <= 0) {
      why_ = received == 0 ? "the server closed the connection" : std::strerror(errno);
      return Result::kEnded;
    }
    const size_t direct = std::min(room[0].iov_len, static_cast<size_t>(received));
    payload_to_ += direct;
    payload_left_bytes_ -= direct;
    end_ += static_cast<size_t>(received) - direct;
    if (const Result result = parse(); result != Result::kGoOn) return result;
    if (static_cast<size_t>(received) < room[0].iov_len + room[1].iov_len) return Result::kGoOn;
  }
}

NbdReplyReader::Result NbdReplyReader::parse() {
  for (;;) {
    if (payload_part_ != nullptr && !take_payload()) return Result::kGoOn;
    switch (parse_reply()) {
      case Step::kNext:
        break;
      case Step::kNeedsMore:
        return Result::kGoOn;
      case Step::kStop:
        return stopped_;
    }
  }
}

// False: more of it has to arrive.
bool NbdReplyReader::take_payload() {
  const size_t length = std::min(payload_left_bytes_, buffered_bytes());
  std::memcpy(payload_to_, at(), length);
  begin_ += length;
  payload_to_ += length;
  payload_left_bytes_ -= length;
  if (payload_left_bytes_ > 0) return false;
  end_of_chunk(*std::exchange(payload_part_, nullptr), is_last_chunk_);
  return true;
}

NbdReplyReader::Step NbdReplyReader::parse_reply() {
  if (buffered_bytes() < sizeof(nbd::SimpleReply)) return Step::kNeedsMore;
  const auto magic = load_be<uint32_t>(at());
  if (magic == nbd::kSimpleReplyMagic) return parse_simple();
  if (magic == nbd::kStructuredReplyMagic && is_structured_) return parse_chunk();
  return violation("a reply has a wrong magic");
}

NbdReplyReader::Step NbdReplyReader::parse_simple() {
  const auto reply = nbd::load_struct<nbd::SimpleReply>(at());
  NbdClientPart* part = parts_.find(reply.cookie);
  if (part == nullptr) return violation("a reply belongs to no request");
  if (reply.error == ESHUTDOWN) return ended("the server is shutting down");
  const bool has_content =
      part->command == Command::kRead || part->command == Command::kBlockStatus;
  if (has_content && reply.error == 0 && is_structured_) {
    return violation("a reply with content is not structured");
  }
  begin_ += sizeof reply;
  part->error = reply.error == 0 ? 0 : errno_of(reply.error);
  if (part->command != Command::kRead || part->error != 0) {
    parts_.on_finished(*part);
    return Step::kNext;
  }
  part->coverage.add(0, part->length_bytes);
  return begin_payload(*part, part->data, part->length_bytes, true);
}

NbdReplyReader::Step NbdReplyReader::parse_chunk() {
  if (buffered_bytes() < sizeof(nbd::StructuredChunk)) return Step::kNeedsMore;
  const auto chunk = nbd::load_struct<nbd::StructuredChunk>(at());
  NbdClientPart* part = parts_.find(chunk.cookie);
  if (part == nullptr) return violation("a chunk belongs to no request");
  return take_chunk(chunk, *part);
}

NbdReplyReader::Step NbdReplyReader::take_chunk(const nbd::StructuredChunk& chunk,
                                                NbdClientPart& part) {
  const uint16_t type = chunk.type;
  if ((type & 0x8000U) != 0) return take_error(chunk, part);
  switch (static_cast<ChunkType>(type)) {
    case ChunkType::kNone: {
      const bool is_done = (chunk.flags & nbd::kChunkDone) != 0;
      if (chunk.length_bytes != 0 || !is_done) return violation("an empty chunk that ends nothing");
      begin_ += sizeof chunk;
      return end_of_chunk(part, true);
    }
    case ChunkType::kOffsetData:
      return take_data(chunk, part);
    case ChunkType::kOffsetHole:
      return take_hole(chunk, part);
    case ChunkType::kBlockStatus:
      return take_extents(chunk, part);
    default:
      return violation("a chunk of an unknown type");
  }
}

bool NbdReplyReader::is_range_of(const NbdClientPart& part, uint64_t offset_bytes,
                                 uint64_t length_bytes) const noexcept {
  return part.command == Command::kRead && length_bytes > 0 && offset_bytes >= part.offset_bytes &&
         offset_bytes - part.offset_bytes < part.length_bytes &&
         length_bytes <= part.length_bytes - (offset_bytes - part.offset_bytes);
}

NbdReplyReader::Step NbdReplyReader::take_data(const nbd::StructuredChunk& chunk,
                                               NbdClientPart& part) {
  if (buffered_bytes() < sizeof(nbd::OffsetDataChunk)) return Step::kNeedsMore;
  const uint64_t offset_bytes = nbd::load_struct<nbd::OffsetDataChunk>(at()).offset_bytes;
  const uint32_t chunk_bytes = chunk.length_bytes;
  if (chunk_bytes <= sizeof(nbd::be64) ||
      !is_range_of(part, offset_bytes, chunk_bytes - sizeof(nbd::be64))) {
    return violation("data lies outside of what was asked for");
  }
  const auto length_bytes = static_cast<uint32_t>(chunk_bytes - sizeof(nbd::be64));
  const auto begin = static_cast<uint32_t>(offset_bytes - part.offset_bytes);
  if (!part.coverage.add(begin, begin + length_bytes)) return violation("chunks overlap");
  begin_ += sizeof(nbd::OffsetDataChunk);
  return begin_payload(part, part.data + begin, length_bytes, (chunk.flags & nbd::kChunkDone) != 0);
}

NbdReplyReader::Step NbdReplyReader::take_hole(const nbd::StructuredChunk& chunk,
                                               NbdClientPart& part) {
  constexpr size_t kHoleBytes = sizeof(nbd::be64) + sizeof(nbd::be32);
  if (chunk.length_bytes != kHoleBytes) return violation("a hole of a wrong length");
  if (buffered_bytes() < sizeof chunk + kHoleBytes) return Step::kNeedsMore;
  const auto offset_bytes = load_be<uint64_t>(at() + sizeof chunk);
  const auto length_bytes = load_be<uint32_t>(at() + sizeof chunk + sizeof(nbd::be64));
  if (!is_range_of(part, offset_bytes, length_bytes)) {
    return violation("a hole lies outside of what was asked for");
  }
  const auto begin = static_cast<uint32_t>(offset_bytes - part.offset_bytes);
  if (!part.coverage.add(begin, begin + length_bytes)) return violation("chunks overlap");
  std::memset(part.data + begin, 0, length_bytes);
  begin_ += sizeof chunk + kHoleBytes;
  return end_of_chunk(part, (chunk.flags & nbd::kChunkDone) != 0);
}

// Of the error chunk's text and offset nothing is used. A read may have got data
// before: it is an error all the same.
NbdReplyReader::Step NbdReplyReader::take_error(const nbd::StructuredChunk& chunk,
                                                NbdClientPart& part) {
  const uint32_t chunk_bytes = chunk.length_bytes;
  if (chunk_bytes < sizeof(nbd::be32) + sizeof(nbd::be16) ||
      chunk_bytes > kMaximumErrorChunkBytes) {
    return violation("an error chunk of a wrong length");
  }
  if (buffered_bytes() < sizeof chunk + chunk_bytes) return Step::kNeedsMore;
  const auto error = nbd::load_struct<nbd::ErrorChunk>(at());
  if (error.text_bytes > chunk_bytes - sizeof(nbd::be32) - sizeof(nbd::be16)) {
    return violation("an error text longer than its chunk");
  }
  if (error.error == ESHUTDOWN) return ended("the server is shutting down");
  if (part.error == 0) part.error = errno_of(error.error);
  begin_ += sizeof chunk + chunk_bytes;
  return end_of_chunk(part, (chunk.flags & nbd::kChunkDone) != 0);
}

NbdReplyReader::Step NbdReplyReader::take_extents(const nbd::StructuredChunk& chunk,
                                                  NbdClientPart& part) {
  constexpr size_t kExtentBytes = sizeof(nbd::BlockStatusExtent);
  if (buffered_bytes() < sizeof(nbd::BlockStatusChunk)) return Step::kNeedsMore;
  const uint32_t context_id = nbd::load_struct<nbd::BlockStatusChunk>(at()).context_id;
  const size_t extent_bytes = chunk.length_bytes - sizeof(nbd::be32);
  const bool is_sound = chunk.length_bytes > sizeof(nbd::be32) &&
                        extent_bytes % kExtentBytes == 0 &&
                        extent_bytes / kExtentBytes <= kMaximumExtents;
  if (!is_sound || part.command != Command::kBlockStatus || context_id != allocation_context_ ||
      !part.extents.empty()) {
    return violation("block status that was not asked for");
  }
  begin_ += sizeof(nbd::BlockStatusChunk);
  part.extents.resize(extent_bytes / kExtentBytes);
  return begin_payload(part, reinterpret_cast<std::byte*>(part.extents.data()), extent_bytes,
                       (chunk.flags & nbd::kChunkDone) != 0);
}

NbdReplyReader::Step NbdReplyReader::begin_payload(NbdClientPart& part, std::byte* to,
                                                   size_t length_bytes, bool is_done) {
  payload_part_ = &part;
  payload_to_ = to;
  payload_left_bytes_ = length_bytes;
  is_last_chunk_ = is_done;
  return Step::kNext;
}

NbdReplyReader::Step NbdReplyReader::end_of_chunk(NbdClientPart& part, bool is_done) {
  if (is_done) finish(part);
  return Step::kNext;
}

// A success without the content is none.
void NbdReplyReader::finish(NbdClientPart& part) {
  const bool lacks_data =
      part.command == Command::kRead && !part.coverage.is_whole(part.length_bytes);
  const bool lacks_extents = part.command == Command::kBlockStatus && part.extents.empty();
  if (part.error == 0 && (lacks_data || lacks_extents)) part.error = EIO;
  parts_.on_finished(part);
}

NbdReplyReader::Step NbdReplyReader::violation(const char* what) {
  stopped_ = Result::kViolation;
  why_ = std::string("the server breaks the NBD protocol: ") + what;
  return Step::kStop;
}

NbdReplyReader::Step NbdReplyReader::ended(const char* what) {
  stopped_ = Result::kEnded;
  why_ = what;
  return Step::kStop;
}

}  // namespace tidemark
