// InputBuffer: what a connection has received and not yet parsed.
//
// Representation: one receive chunk whose unparsed bytes are contiguous, and at
// most one large payload on its way into a chunk of its own. Requests that are
// being written hold references to the chunk; it is then continued in a fresh
// one, with the incomplete message at its end (at most kLargePayloadBytes and a
// header) copied over. An idle connection holds no chunk.
// Workload: tens of requests a receive. Cost: no copy but that one message, and
// for a large payload at most what came along with its header.
#pragma once

#include <cstddef>
#include <span>

#include "nbd/byte_stream.h"
#include "nbd/chunk.h"

namespace tidemark::nbd {

class InputBuffer {
 public:
  enum class ReceiveResult { kData, kNothing, kEnd, kBroken };

  static constexpr size_t kChunkBytes = 512 * 1024;
  static constexpr size_t kLargePayloadBytes = 64 * 1024;

  InputBuffer(ChunkPool& pool, size_t& account_bytes)
      : pool_(pool), account_bytes_(account_bytes) {}

  // One receive of what there is.
  ReceiveResult receive(ByteStream& stream) noexcept;

  std::span<const std::byte> unparsed() const noexcept;
  void consume(size_t length_bytes) noexcept;

  // The chunk that holds unparsed(): a reference to it keeps those bytes.
  const ChunkRef& chunk() const noexcept { return chunk_; }
  std::byte* position() const noexcept { return chunk_->bytes + begin_; }

  // Directs the next `length_bytes` into `into`, those here already included.
  void begin_payload(std::byte* into, size_t length_bytes) noexcept;
  bool is_payload_pending() const noexcept { return payload_left_bytes_ > 0; }
  size_t payload_left_bytes() const noexcept { return payload_left_bytes_; }

  // Gives the chunk back when nothing in it is unparsed or referred to.
  void release_if_empty() noexcept;
  void discard() noexcept;

 private:
  bool make_room() noexcept;
  size_t room_limit() const noexcept;
  void received(size_t length_bytes) noexcept;

  ChunkPool& pool_;
  size_t& account_bytes_;
  ChunkRef chunk_;
  size_t begin_ = 0;  // unparsed bytes are [begin_, end_) of the chunk
  size_t end_ = 0;
  std::byte* payload_ = nullptr;
  size_t payload_left_bytes_ = 0;
  bool expects_large_ = false;  // the last payload was large; the next may be
};

}  // namespace tidemark::nbd
