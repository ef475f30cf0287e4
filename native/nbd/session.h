// Session: what client and server have agreed on in the handshake. Dropping all
// of it is one assignment.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "nbd/export_registry.h"

namespace tidemark::nbd {

// TLS is required or not there, never left to the client.
enum class TlsState {
  kNone,      // this server has no TLS
  kRequired,  // it has, and this connection is not inside yet
  kActive,
};

struct MetaContext {
  uint32_t id;
  std::string name;
};

struct Session {
  bool no_zeroes = false;
  bool structured_replies = false;
  std::string context_export;  // the export that `contexts` were chosen for
  std::vector<MetaContext> contexts;
  ExportLease served;  // empty until transmission
};

}  // namespace tidemark::nbd
