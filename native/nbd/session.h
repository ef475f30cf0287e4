// Session: what client and server have agreed on in the handshake. Dropping all
// of it is one assignment.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "nbd/export_registry.h"

namespace tidemark::nbd {

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
