// ClientRequest: a request as a client sent it, in the host's byte order,
// whichever of the two headers it came with.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/nbd_wire.h"

namespace tidemark::nbd {

struct ClientRequest {
  uint64_t cookie = 0;
  uint64_t offset_bytes = 0;
  uint64_t length_bytes = 0;   // what it acts on
  uint64_t payload_bytes = 0;  // that follow the header
  Command command = Command::kRead;
  uint16_t flags = 0;

  uint64_t end_bytes() const noexcept { return offset_bytes + length_bytes; }
};

// `from` is a RequestHeader: only a write has a payload.
inline ClientRequest take_compact(const std::byte* from) noexcept {
  const auto header = load_struct<RequestHeader>(from);
  const auto command = static_cast<Command>(uint16_t{header.command});
  const uint32_t length_bytes = header.length_bytes;
  const uint32_t payload_bytes = command == Command::kWrite ? length_bytes : 0;
  return {header.cookie, header.offset_bytes, length_bytes, payload_bytes, command, header.flags};
}

// `from` is an ExtendedRequestHeader: its flag says whether a payload follows. For
// a write it is both lengths; elsewhere the payload says what is acted on.
inline ClientRequest take_extended(const std::byte* from) noexcept {
  const auto header = load_struct<ExtendedRequestHeader>(from);
  const auto command = static_cast<Command>(uint16_t{header.command});
  const uint16_t flags = header.flags;
  const uint64_t length_bytes = header.length_bytes;
  const bool has_payload = (flags & kCommandPayloadLength) != 0;
  return {header.cookie, header.offset_bytes, length_bytes, has_payload ? length_bytes : 0, command,
          flags};
}

}  // namespace tidemark::nbd
