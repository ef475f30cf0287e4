#include "device/nbd_client_operation.h"

#include <algorithm>
#include <array>
#include <cerrno>

namespace tidemark {

namespace {

using nbd::Command;

// Without payload. Short enough that other requests come through in between.
constexpr uint64_t kRangeBytes = 1ULL << 30;
// The protocol's length field, on whole blocks of any size.
constexpr uint64_t kLongestRangeBytes = (1ULL << 32) - 64 * 1024;
constexpr size_t kZeroBytes = 1024 * 1024;

std::byte* zeroes() noexcept {
  static std::array<std::byte, kZeroBytes> bytes{};
  return bytes.data();
}

NbdClientPart& add_part(NbdClientOperation& operation, NbdClientSession& session, Command command,
                        uint16_t flags) {
  NbdClientPart& part = session.acquire();
  part.operation = &operation;
  part.command = command;
  part.flags = flags;
  part.offset_bytes = 0;
  part.length_bytes = 0;
  part.data = nullptr;
  ++operation.parts_left;
  session.issue(part);
  return part;
}

void cut(NbdClientOperation& operation, NbdClientSession& session, Command command, uint16_t flags,
         uint64_t longest_bytes) {
  const IoRequest& request = *operation.request;
  for (uint64_t done_bytes = 0; done_bytes < request.length_bytes;) {
    NbdClientPart& part = add_part(operation, session, command, flags);
    part.offset_bytes = request.offset_bytes + done_bytes;
    part.length_bytes =
        static_cast<uint32_t>(std::min(longest_bytes, request.length_bytes - done_bytes));
    if (request.data != nullptr) part.data = request.data + done_bytes;
    done_bytes += part.length_bytes;
  }
}

void write_zero_bytes(NbdClientOperation& operation, NbdClientSession& session, uint16_t flags) {
  const uint64_t longest_bytes =
      std::min<uint64_t>(session.description().maximum_payload_bytes, kZeroBytes);
  const IoRequest& request = *operation.request;
  for (uint64_t done_bytes = 0; done_bytes < request.length_bytes;) {
    NbdClientPart& part = add_part(operation, session, Command::kWrite, flags);
    part.offset_bytes = request.offset_bytes + done_bytes;
    part.length_bytes =
        static_cast<uint32_t>(std::min(longest_bytes, request.length_bytes - done_bytes));
    part.data = zeroes();
    done_bytes += part.length_bytes;
  }
}

uint16_t fua_flag(const NbdClientOperation& operation, const NbdClientSession& session) noexcept {
  const bool is_wanted = (operation.request->flags & kIoFua) != 0;
  return is_wanted && session.description().has(nbd::kFlagSendFua) ? nbd::kCommandFua : uint16_t{0};
}

void issue_write_zeroes(NbdClientOperation& operation, NbdClientSession& session) {
  const NbdExportDescription& upstream = session.description();
  const IoRequest& request = *operation.request;
  const bool is_fast = (request.flags & kIoFastZero) != 0;
  const bool can_be_fast =
      upstream.has(nbd::kFlagSendWriteZeroes) && upstream.has(nbd::kFlagSendFastZero);
  // In one part, so that a refusal has altered nothing.
  if (is_fast && (!can_be_fast || request.length_bytes > kLongestRangeBytes)) {
    operation.error = ENOTSUP;
    return;
  }
  uint16_t flags = fua_flag(operation, session);
  if (!upstream.has(nbd::kFlagSendWriteZeroes)) return write_zero_bytes(operation, session, flags);
  if ((request.flags & kIoNoHole) != 0) flags |= nbd::kCommandNoHole;
  if (is_fast) flags |= nbd::kCommandFastZero;
  cut(operation, session, Command::kWriteZeroes, flags, is_fast ? kLongestRangeBytes : kRangeBytes);
}

// The protocol's TRIM leaves anything behind; zeroing that may leave a hole does
// the same for the storage and says what is read afterwards.
void issue_trim(NbdClientOperation& operation, NbdClientSession& session) {
  const NbdExportDescription& upstream = session.description();
  uint16_t flags = fua_flag(operation, session);
  if (upstream.has(nbd::kFlagSendWriteZeroes) && upstream.has(nbd::kFlagSendFastZero)) {
    if (!operation.is_patient) flags |= nbd::kCommandFastZero;
    cut(operation, session, Command::kWriteZeroes, flags, kRangeBytes);
  } else if (upstream.has(nbd::kFlagSendTrim)) {
    cut(operation, session, Command::kTrim, flags, kRangeBytes);
  }
}

void issue_extents(NbdClientOperation& operation, NbdClientSession& session) {
  const NbdExportDescription& upstream = session.description();
  if (!upstream.allocation_context) return;
  const NbdExtentQuery& query = *operation.query;
  const uint64_t step = upstream.minimum_block_bytes;
  const uint64_t begin = query.offset_bytes / step * step;
  const uint64_t end = (query.offset_bytes + query.length_bytes + step - 1) / step * step;
  NbdClientPart& part = add_part(operation, session, Command::kBlockStatus,
                                 query.wants_one ? nbd::kCommandReqOne : uint16_t{0});
  part.offset_bytes = begin;
  part.length_bytes = static_cast<uint32_t>(std::min(end - begin, kLongestRangeBytes));
}

// FUA where the server has none: written first, then flushed.
bool needs_flush(const NbdClientOperation& operation, const NbdClientSession& session) noexcept {
  return operation.is_write_class() && (operation.request->flags & kIoFua) != 0 &&
         !session.description().has(nbd::kFlagSendFua);
}

}  // namespace

void issue_nbd_operation(NbdClientOperation& operation, NbdClientSession& session) {
  operation.reset();
  if (operation.kind == NbdClientOperation::Kind::kExtents) {
    return issue_extents(operation, session);
  }
  const bool can_flush = session.description().has(nbd::kFlagSendFlush);
  const IoRequest& request = *operation.request;
  if (!can_flush && (request.op == IoOp::kFlush || needs_flush(operation, session))) {
    operation.error = ENOTSUP;
    return;
  }
  const uint64_t payload_bytes = session.description().maximum_payload_bytes;
  switch (request.op) {
    case IoOp::kRead:
      return cut(operation, session, Command::kRead, 0, payload_bytes);
    case IoOp::kWrite:
      return cut(operation, session, Command::kWrite, fua_flag(operation, session), payload_bytes);
    case IoOp::kFlush:
      add_part(operation, session, Command::kFlush, 0);
      return;
    case IoOp::kTrim:
      return issue_trim(operation, session);
    case IoOp::kWriteZeroes:
      return issue_write_zeroes(operation, session);
  }
}

bool finish_nbd_part(NbdClientPart& part, NbdClientSession& session) {
  NbdClientOperation& operation = *part.operation;
  if (operation.error == 0) operation.error = part.error;
  session.release(part);
  if (--operation.parts_left > 0) return false;
  if (operation.kind == NbdClientOperation::Kind::kExtents) return true;
  const bool was_quick_trim = operation.request->op == IoOp::kTrim && !operation.is_patient;
  if (operation.error == ENOTSUP && was_quick_trim) {
    operation.error = 0;
    operation.is_patient = true;
    issue_trim(operation, session);
    return operation.parts_left == 0;
  }
  if (operation.error == 0 && !operation.is_flushing && needs_flush(operation, session)) {
    operation.is_flushing = true;
    add_part(operation, session, Command::kFlush, 0);
    return false;
  }
  return true;
}

std::vector<DeviceExtent> nbd_extents_of(const NbdClientPart& part, const NbdExtentQuery& query) {
  std::vector<DeviceExtent> extents;
  uint64_t at = part.offset_bytes;
  const uint64_t end = query.offset_bytes + query.length_bytes;
  for (const nbd::BlockStatusExtent& each : part.extents) {
    const uint64_t length_bytes = each.length_bytes;
    if (length_bytes == 0) break;
    const uint64_t from = std::max(at, query.offset_bytes);
    at += length_bytes;
    if (std::min(at, end) > from) {
      extents.push_back({std::min(at, end) - from, each.flags & (kExtentHole | kExtentZero)});
    }
    if (at >= end) break;
  }
  return extents;
}

}  // namespace tidemark
