#include "nbd/input_buffer.h"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>

namespace tidemark::nbd {

namespace {

// Behind a large payload only so much is received along: what turns out to be
// the next large payload has to be copied.
constexpr size_t kBesideLargeBytes = 32 * 1024;
// The longest message that is parsed in place, and some.
constexpr size_t kMinimumRoomBytes = InputBuffer::kLargePayloadBytes + 4096;

}  // namespace

std::span<const std::byte> InputBuffer::unparsed() const noexcept {
  if (!chunk_) return {};
  return {chunk_->bytes + begin_, end_ - begin_};
}

void InputBuffer::consume(size_t length_bytes) noexcept {
  assert(length_bytes <= end_ - begin_);
  begin_ += length_bytes;
}

bool InputBuffer::make_room() noexcept {
  if (chunk_ && chunk_.is_only_reference()) {
    if (begin_ == end_) begin_ = end_ = 0;
    if (chunk_->capacity_bytes - end_ >= kMinimumRoomBytes) return true;
    std::memmove(chunk_->bytes, chunk_->bytes + begin_, end_ - begin_);
  } else {
    if (chunk_ && chunk_->capacity_bytes - end_ >= kMinimumRoomBytes) return true;
    ChunkRef fresh = pool_.acquire(kChunkBytes, account_bytes_);
    if (!fresh) return false;
    if (end_ > begin_) std::memcpy(fresh->bytes, chunk_->bytes + begin_, end_ - begin_);
    chunk_ = std::move(fresh);
  }
  end_ -= begin_;
  begin_ = 0;
  return true;
}

size_t InputBuffer::room_limit() const noexcept {
  const size_t room = chunk_->capacity_bytes - end_;
  return expects_large_ ? std::min(room, kBesideLargeBytes) : room;
}

InputBuffer::ReceiveResult InputBuffer::receive(ByteStream& stream) noexcept {
  if (!make_room()) return ReceiveResult::kBroken;
  iovec vectors[2];
  size_t count = 0;
  if (is_payload_pending()) vectors[count++] = {payload_, payload_left_bytes_};
  vectors[count++] = {chunk_->bytes + end_, room_limit()};
  const ssize_t length = stream.receive(vectors, count);
  if (length > 0) {
    received(static_cast<size_t>(length));
    return ReceiveResult::kData;
  }
  if (length == 0) return ReceiveResult::kEnd;
  const bool is_passing = errno == EAGAIN || errno == EWOULDBLOCK;
  return is_passing ? ReceiveResult::kNothing : ReceiveResult::kBroken;
}

void InputBuffer::received(size_t length_bytes) noexcept {
  const size_t of_payload = std::min(length_bytes, payload_left_bytes_);
  if (of_payload == 0) expects_large_ = false;
  payload_ += of_payload;
  payload_left_bytes_ -= of_payload;
  end_ += length_bytes - of_payload;
}

void InputBuffer::begin_payload(std::byte* into, size_t length_bytes) noexcept {
  assert(!is_payload_pending());
  const size_t here = std::min(length_bytes, end_ - begin_);
  if (here > 0) std::memcpy(into, chunk_->bytes + begin_, here);
  begin_ += here;
  payload_ = into + here;
  payload_left_bytes_ = length_bytes - here;
  expects_large_ = true;
}

void InputBuffer::release_if_empty() noexcept {
  if (!chunk_ || begin_ != end_ || !chunk_.is_only_reference()) return;
  chunk_.reset();
  begin_ = end_ = 0;
}

void InputBuffer::discard() noexcept {
  chunk_.reset();
  begin_ = end_ = 0;
  payload_ = nullptr;
  payload_left_bytes_ = 0;
}

}  // namespace tidemark::nbd
