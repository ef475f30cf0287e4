// The client's side of the fixed newstyle handshake.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "device/nbd_client_socket.h"

namespace tidemark {

// What the server said of the export, checked for sense.
struct NbdExportDescription {
  uint64_t size_bytes = 0;
  uint16_t transmission_flags = 0;
  uint32_t minimum_block_bytes = 1;
  uint32_t preferred_block_bytes = 4096;
  uint32_t maximum_payload_bytes = 32 * 1024 * 1024;
  bool structured_replies = false;
  std::optional<uint32_t> allocation_context;  // the id of base:allocation

  bool has(uint16_t flag) const noexcept { return (transmission_flags & flag) != 0; }
};

// Into the transmission phase of `export_name`. With structured replies and
// base:allocation where the server has them; GO, or EXPORT_NAME where it has not.
Result<NbdExportDescription> negotiate_nbd(NbdClientSocket& socket, const std::string& export_name);

}  // namespace tidemark
