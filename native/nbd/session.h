// Session: what client and server have agreed on in the handshake. Dropping all
// of it is one assignment.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "nbd/export_registry.h"
#include "nbd/reply_format.h"

namespace tidemark::nbd {

// TLS is required or not there, never left to the client.
enum class TlsState {
  kNone,      // this server has no TLS
  kRequired,  // it has, and this connection is not inside yet
  kActive,
};

struct MetaContext {
  uint32_t id;
  std::string name;  // the device's
};

struct Session {
  bool no_zeroes = false;
  bool structured_replies = false;
  bool extended_headers = false;  // and then structured_replies, too
  std::string context_export;     // the export that `contexts` were chosen for
  std::vector<MetaContext> contexts;
  ExportLease served;  // empty until transmission

  ReplyStyle reply_style() const noexcept {
    if (extended_headers) return ReplyStyle::kExtended;
    return structured_replies ? ReplyStyle::kStructured : ReplyStyle::kSimple;
  }
  // BLOCK_STATUS takes a choice of contexts as its payload.
  bool has_payload_filter(std::string_view export_name) const noexcept {
    return extended_headers && !contexts.empty() && context_export == export_name;
  }
};

}  // namespace tidemark::nbd
