#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/fd.h"
#include "common/status.h"

namespace tidemark::attach {

// Connections in the transmission phase, ready to be handed to the kernel: simple
// replies only, which is all that its client understands.
struct NbdClientSockets {
  std::vector<UniqueFd> fds;
  uint64_t size_bytes = 0;
  uint16_t transmission_flags = 0;
  uint32_t minimum_block_bytes = 1;
};

// Connects `connection_count` times to the server at that Unix socket and chooses
// the export. Blocks; each connection has 10 seconds.
Result<NbdClientSockets> connect_nbd_client(const std::string& unix_path,
                                            const std::string& export_name,
                                            uint32_t connection_count);

}  // namespace tidemark::attach
