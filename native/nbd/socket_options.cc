#include "nbd/socket_options.h"

#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

namespace tidemark::nbd {

namespace {

constexpr int kUnixBufferBytes = 4 * 1024 * 1024;
constexpr int kProbeAfterSeconds = 60;
constexpr int kProbeEverySeconds = 15;
constexpr int kProbeCount = 8;

void set(int fd, int level, int option, int value) noexcept {
  ::setsockopt(fd, level, option, &value, sizeof value);
}

void enlarge(int fd, int option, int forced_option) noexcept {
  const int bytes = kUnixBufferBytes;
  if (::setsockopt(fd, SOL_SOCKET, forced_option, &bytes, sizeof bytes) == 0) return;
  set(fd, SOL_SOCKET, option, bytes);
}

}  // namespace

void prepare_unix_connection(int socket_fd) noexcept {
  enlarge(socket_fd, SO_SNDBUF, SO_SNDBUFFORCE);
  enlarge(socket_fd, SO_RCVBUF, SO_RCVBUFFORCE);
}

// TCP sizes its buffers itself.
void prepare_tcp_connection(int socket_fd) noexcept {
  set(socket_fd, IPPROTO_TCP, TCP_NODELAY, 1);
  set(socket_fd, IPPROTO_TCP, TCP_KEEPIDLE, kProbeAfterSeconds);
  set(socket_fd, IPPROTO_TCP, TCP_KEEPINTVL, kProbeEverySeconds);
  set(socket_fd, IPPROTO_TCP, TCP_KEEPCNT, kProbeCount);
  set(socket_fd, SOL_SOCKET, SO_KEEPALIVE, 1);
}

bool is_tcp_socket(int socket_fd) noexcept {
  int protocol = 0;
  socklen_t length = sizeof protocol;
  ::getsockopt(socket_fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &length);
  return protocol == IPPROTO_TCP;
}

void set_low_water(int socket_fd, int length_bytes) noexcept {
  set(socket_fd, SOL_SOCKET, SO_RCVLOWAT, length_bytes);
}

bool has_undelivered_bytes(int socket_fd) noexcept {
  if (!is_tcp_socket(socket_fd)) return false;
  int bytes = 0;
  return ::ioctl(socket_fd, SIOCOUTQ, &bytes) == 0 && bytes > 0;
}

}  // namespace tidemark::nbd
