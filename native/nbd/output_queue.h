// OutputQueue: what a connection still has to send.
//
// Representation: segments of chunks, in sending order; a reply that lies right
// behind the one before it joins its segment, so that a batch of replies is one
// segment. Room is reserved before a read is submitted and queued when it is
// done: a late read keeps its room (and chunk) while others overtake it.
// Cost: queueing is O(1); a flush is one send for up to 64 segments.
#pragma once

#include <cstddef>
#include <vector>

#include "nbd/byte_stream.h"
#include "nbd/chunk.h"

namespace tidemark::nbd {

class OutputQueue {
 public:
  enum class FlushResult { kDrained, kBlocked, kBroken };

  OutputQueue(ChunkPool& pool, size_t& account_bytes)
      : pool_(pool), account_bytes_(account_bytes) {}

  // Contiguous room, owned by the caller through `chunk`; null without memory.
  std::byte* reserve(size_t length_bytes, ChunkRef& chunk) noexcept;

  // Sends [begin, begin + length) of `chunk` after all that was queued before.
  void queue(const ChunkRef& chunk, const std::byte* begin, size_t length_bytes);

  // Reserve, copy and queue. False without memory.
  bool append(const void* bytes, size_t length_bytes);

  // Sends until nothing is left, here or in the stream, or the socket takes no more.
  FlushResult flush(ByteStream& stream) noexcept;

  void discard() noexcept;
  size_t queued_bytes() const noexcept { return queued_bytes_; }

 private:
  struct Segment {
    ChunkRef chunk;
    const std::byte* begin;
    size_t length_bytes;
  };

  void advance(size_t sent_bytes) noexcept;

  ChunkPool& pool_;
  size_t& account_bytes_;
  ChunkRef current_;         // room is taken from here
  size_t current_used_ = 0;  // bytes of current_ that are taken
  std::vector<Segment> segments_;
  size_t first_ = 0;  // segments before this index are sent
  size_t queued_bytes_ = 0;
};

}  // namespace tidemark::nbd
