// CipherBuffer: the TLS records between OpenSSL and a socket, in one direction.
//
// Representation: bytes [begin_, end_) of one chunk, which is held only while
// there are any. Workload: filled by one receive and read record by record, or
// written record by record and emptied by one send. Cost: one copy of the
// encrypted bytes, for one system call a batch instead of two a record.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>

#include "nbd/chunk.h"

namespace tidemark::nbd {

class CipherBuffer {
 public:
  static constexpr size_t kCapacityBytes = ChunkPool::kSmallestBytes + ChunkPool::kSlackBytes;

  CipherBuffer(ChunkPool& pool, size_t& account_bytes)
      : pool_(pool), account_bytes_(account_bytes) {}

  bool is_empty() const noexcept { return begin_ == end_; }
  std::span<const std::byte> content() const noexcept {
    return is_empty() ? std::span<const std::byte>{} : std::span(chunk_->bytes + begin_, size());
  }
  size_t room_bytes() const noexcept { return kCapacityBytes - end_; }

  // Where room_bytes() may be put, to be followed by filled(); null without memory.
  std::byte* room() noexcept {
    if (!chunk_) chunk_ = pool_.acquire(kCapacityBytes, account_bytes_);
    return chunk_ ? chunk_->bytes + end_ : nullptr;
  }
  void filled(size_t length_bytes) noexcept { end_ += length_bytes; }

  // All of it or nothing.
  bool append(const void* bytes, size_t length_bytes) noexcept {
    if (length_bytes > room_bytes() || room() == nullptr) return false;
    std::memcpy(chunk_->bytes + end_, bytes, length_bytes);
    end_ += length_bytes;
    return true;
  }

  void consume(size_t length_bytes) noexcept {
    begin_ += length_bytes;
    if (is_empty()) clear();
  }
  size_t take(void* into, size_t at_most_bytes) noexcept {
    const size_t part = std::min(at_most_bytes, size());
    if (part > 0) std::memcpy(into, chunk_->bytes + begin_, part);
    consume(part);
    return part;
  }
  void clear() noexcept {
    chunk_.reset();
    begin_ = end_ = 0;
  }

 private:
  size_t size() const noexcept { return end_ - begin_; }

  ChunkPool& pool_;
  size_t& account_bytes_;
  ChunkRef chunk_;
  size_t begin_ = 0;
  size_t end_ = 0;
};

}  // namespace tidemark::nbd
