#include "nbd/output_queue.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace tidemark::nbd {

namespace {

constexpr size_t kMaximumVectors = 64;
constexpr size_t kCompactAfterSegments = 1024;

OutputQueue::FlushResult result_of_errno() noexcept {
  return errno == EAGAIN || errno == EWOULDBLOCK ? OutputQueue::FlushResult::kBlocked
                                                 : OutputQueue::FlushResult::kBroken;
}

}  // namespace

std::byte* OutputQueue::reserve(size_t length_bytes, ChunkRef& chunk) noexcept {
  if (!current_ || current_->capacity_bytes - current_used_ < length_bytes) {
    ChunkRef fresh =
        pool_.acquire(std::max(length_bytes, ChunkPool::kSmallestBytes), account_bytes_);
    if (!fresh) return nullptr;
    current_ = std::move(fresh);
    current_used_ = 0;
  }
  std::byte* room = current_->bytes + current_used_;
  current_used_ += length_bytes;
  chunk = current_;
  return room;
}

void OutputQueue::queue(const ChunkRef& chunk, const std::byte* begin, size_t length_bytes) {
  queued_bytes_ += length_bytes;
  if (first_ < segments_.size()) {
    Segment& last = segments_.back();
    if (last.chunk.get() == chunk.get() && last.begin + last.length_bytes == begin) {
      last.length_bytes += length_bytes;
      return;
    }
  }
  segments_.push_back(Segment{chunk, begin, length_bytes});
}

bool OutputQueue::append(const void* bytes, size_t length_bytes) {
  const auto* from = static_cast<const std::byte*>(bytes);
  while (length_bytes > 0) {
    const size_t part = std::min(length_bytes, ChunkPool::kSmallestBytes);
    ChunkRef chunk;
    std::byte* room = reserve(part, chunk);
    if (room == nullptr) return false;
    std::memcpy(room, from, part);
    queue(chunk, room, part);
    from += part;
    length_bytes -= part;
  }
  return true;
}

OutputQueue::FlushResult OutputQueue::flush(ByteStream& stream) noexcept {
  while (queued_bytes_ > 0) {
    std::array<iovec, kMaximumVectors> vectors;
    const size_t count = std::min(segments_.size() - first_, kMaximumVectors);
    for (size_t i = 0; i < count; ++i) {
      const Segment& segment = segments_[first_ + i];
      vectors[i] = {const_cast<std::byte*>(segment.begin), segment.length_bytes};
    }
    const ssize_t sent = stream.send(vectors.data(), count);
    if (sent < 0) return result_of_errno();
    advance(static_cast<size_t>(sent));
  }
  return stream.flush() < 0 ? result_of_errno() : FlushResult::kDrained;
}

void OutputQueue::advance(size_t sent_bytes) noexcept {
  queued_bytes_ -= sent_bytes;
  while (sent_bytes > 0) {
    Segment& segment = segments_[first_];
    const size_t part = std::min(sent_bytes, segment.length_bytes);
    segment.begin += part;
    segment.length_bytes -= part;
    sent_bytes -= part;
    if (segment.length_bytes == 0) {
      segment.chunk.reset();
      ++first_;
    }
  }
  if (queued_bytes_ == 0) {
    segments_.clear();
    first_ = 0;
    if (current_ && current_.is_only_reference()) current_.reset();
  } else if (first_ >= kCompactAfterSegments) {
    segments_.erase(segments_.begin(), segments_.begin() + static_cast<ptrdiff_t>(first_));
    first_ = 0;
  }
}

void OutputQueue::discard() noexcept {
  segments_.clear();
  first_ = 0;
  queued_bytes_ = 0;
  current_.reset();
  current_used_ = 0;
}

}  // namespace tidemark::nbd
