#include "nbd/peer_name.h"

#include <netdb.h>
#include <sys/socket.h>

namespace tidemark::nbd {

std::string peer_name_of(int socket_fd) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  if (::getpeername(socket_fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    return "a client that is gone";
  }
  if (address.ss_family == AF_UNIX) return "a local client";
  char host[NI_MAXHOST];
  char port[NI_MAXSERV];
  if (::getnameinfo(reinterpret_cast<sockaddr*>(&address), length, host, sizeof host, port,
                    sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    return "a client";
  }
  const bool is_ipv6 = address.ss_family == AF_INET6;
  return "the client " + (is_ipv6 ? "[" + std::string(host) + "]" : std::string(host)) + ":" + port;
}

}  // namespace tidemark::nbd
