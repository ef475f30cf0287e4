#include "nbd/request_check.h"

namespace tidemark::nbd {

namespace {

bool is_write_class(Command command) noexcept {
  return command == Command::kWrite || command == Command::kTrim ||
         command == Command::kWriteZeroes;
}

bool is_known(Command command, const RequestRules& rules) noexcept {
  switch (command) {
    case Command::kRead:
    case Command::kWrite:
    case Command::kDisconnect:
    case Command::kTrim:
    case Command::kWriteZeroes:
      return true;
    case Command::kFlush:
      return rules.can_flush;
    case Command::kBlockStatus:
      return rules.has_meta_contexts;
    case Command::kCache:
      return rules.can_cache;
  }
  return false;
}

// FUA is taken on every command once it is advertised; only writes heed it.
uint16_t allowed_flags(Command command, const RequestRules& rules) noexcept {
  uint16_t flags = rules.can_flush ? kCommandFua : uint16_t{0};
  if (command == Command::kRead && rules.has_structured_replies) flags |= kCommandDf;
  if (command == Command::kWriteZeroes) flags |= kCommandNoHole | kCommandFastZero;
  if (command == Command::kBlockStatus) flags |= kCommandReqOne;
  const bool may_have_payload = command == Command::kWrite || command == Command::kBlockStatus;
  if (may_have_payload && rules.has_extended_headers) flags |= kCommandPayloadLength;
  return flags;
}

Refusal check_range(const ClientRequest& request, const RequestRules& rules) noexcept {
  const uint64_t offset_bytes = request.offset_bytes;
  const uint64_t length_bytes = request.length_bytes;
  const bool is_inside =
      offset_bytes <= rules.size_bytes && length_bytes <= rules.size_bytes - offset_bytes;
  if (!is_inside) {
    const bool is_full =
        request.command == Command::kWrite || request.command == Command::kWriteZeroes;
    return {is_full ? WireError::kNoSpace : WireError::kInvalid, "past the end of the disk"};
  }
  const uint64_t alignment_mask = rules.minimum_block_bytes - 1;
  if (((offset_bytes | length_bytes) & alignment_mask) != 0) {
    return {WireError::kInvalid, "not aligned to the minimum block size"};
  }
  return {};
}

Refusal check_length(const ClientRequest& request) noexcept {
  const uint64_t length_bytes = request.length_bytes;
  const bool is_read = request.command == Command::kRead;
  const bool is_write = request.command == Command::kWrite;
  if ((is_read || is_write) && length_bytes > kMaximumPayloadBytes) {
    const bool is_df = (request.flags & kCommandDf) != 0;
    return {is_df ? WireError::kOverflow : WireError::kInvalid,
            "longer than the maximum payload of 32 MiB"};
  }
  // Possible with extended headers only.
  if (is_write && request.payload_bytes != length_bytes) {
    return {WireError::kInvalid, "a write without the flag that it has a payload"};
  }
  if (request.command == Command::kBlockStatus && length_bytes == 0) {
    return {WireError::kInvalid, "block status of no bytes"};
  }
  return {};
}

}  // namespace

Refusal check_request(const ClientRequest& request, const RequestRules& rules) noexcept {
  const Command command = request.command;
  if (!is_known(command, rules)) return {WireError::kInvalid, "unknown command"};
  if ((request.flags & ~allowed_flags(command, rules)) != 0) {
    return {WireError::kInvalid, "unknown or not negotiated command flag"};
  }
  if (is_write_class(command) && rules.is_read_only) {
    return {WireError::kPerm, "the export is read-only"};
  }
  if (command == Command::kFlush || command == Command::kDisconnect) return {};
  if (Refusal refusal = check_length(request); refusal.is_refused()) return refusal;
  if (Refusal refusal = check_range(request, rules); refusal.is_refused()) return refusal;
  if ((request.flags & kCommandFastZero) != 0 && !rules.has_fast_zero) {
    return {WireError::kNotSupported, "zeroing is not faster than writing here"};
  }
  return {};
}

}  // namespace tidemark::nbd
