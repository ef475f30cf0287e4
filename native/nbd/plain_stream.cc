#include "nbd/plain_stream.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "nbd/socket_options.h"

namespace tidemark::nbd {

namespace {

constexpr size_t kGatheredBytes = 512 * 1024;
constexpr size_t kWorthGatheringBytes = 64 * 1024;

msghdr message_of(const iovec* vectors, size_t count) noexcept {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(vectors);
  message.msg_iovlen = count;
  return message;
}

}  // namespace

PlainStream::PlainStream(int socket_fd) noexcept
    : socket_fd_(socket_fd), is_tcp_(is_tcp_socket(socket_fd)) {}

void PlainStream::expect(size_t length_bytes) noexcept {
  if (!is_tcp_) return;
  const size_t wanted =
      length_bytes < kWorthGatheringBytes ? 1 : std::min(length_bytes, kGatheredBytes);
  if (wanted == low_water_bytes_) return;
  low_water_bytes_ = wanted;
  set_low_water(socket_fd_, static_cast<int>(wanted));
}

ssize_t PlainStream::receive(const iovec* vectors, size_t count) noexcept {
  msghdr message = message_of(vectors, count);
  ssize_t length;
  do {
    length = ::recvmsg(socket_fd_, &message, MSG_DONTWAIT);
  } while (length < 0 && errno == EINTR);
  return length;
}

ssize_t PlainStream::send(const iovec* vectors, size_t count) noexcept {
  const msghdr message = message_of(vectors, count);
  ssize_t length;
  do {
    length = ::sendmsg(socket_fd_, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (length < 0 && errno == EINTR);
  return length;
}

}  // namespace tidemark::nbd
