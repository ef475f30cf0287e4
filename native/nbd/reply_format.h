// ReplyFormat: which of the protocol's three kinds of replies a session has, and
// the header of a reply chunk in it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "common/nbd_wire.h"

namespace tidemark::nbd {

enum class ReplyStyle : uint8_t {
  kSimple,      // everywhere
  kStructured,  // READ and BLOCK_STATUS in chunks, errors included; the others simple
  kExtended,    // everything in chunks, with the longer header
};

// What a reply says of the request that it answers.
struct ReplyTo {
  uint64_t cookie;
  uint64_t offset_bytes;  // as the client sent it
};

class ReplyFormat {
 public:
  explicit ReplyFormat(ReplyStyle style) : style_(style) {}

  ReplyStyle style() const noexcept { return style_; }
  bool is_extended() const noexcept { return style_ == ReplyStyle::kExtended; }

  size_t chunk_header_bytes() const noexcept {
    return is_extended() ? sizeof(ExtendedChunk) : sizeof(StructuredChunk);
  }

  // Where the chunk's payload of `payload_bytes` goes.
  std::byte* put_chunk_header(std::byte* at, ChunkType type, bool is_last, const ReplyTo& to,
                              size_t payload_bytes) const noexcept {
    const uint16_t flags = is_last ? kChunkDone : uint16_t{0};
    const auto wire_type = static_cast<uint16_t>(type);
    if (is_extended()) {
      return put(at, ExtendedChunk{kExtendedReplyMagic, flags, wire_type, to.cookie,
                                   to.offset_bytes, payload_bytes});
    }
    return put(at, StructuredChunk{kStructuredReplyMagic, flags, wire_type, to.cookie,
                                   static_cast<uint32_t>(payload_bytes)});
  }

  template <typename Struct>
  static std::byte* put(std::byte* at, const Struct& fields) noexcept {
    std::memcpy(at, &fields, sizeof fields);
    return at + sizeof fields;
  }

 private:
  ReplyStyle style_;
};

}  // namespace tidemark::nbd
