#pragma once

#include <string>

namespace tidemark::nbd {

// Who is at the other end of a socket, for messages: "the client 192.0.2.7:40000",
// "a local client".
std::string peer_name_of(int socket_fd);

}  // namespace tidemark::nbd
