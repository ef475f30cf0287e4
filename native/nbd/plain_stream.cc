#include "nbd/plain_stream.h"

#include <sys/socket.h>

#include <cerrno>

namespace tidemark::nbd {

namespace {

msghdr message_of(const iovec* vectors, size_t count) noexcept {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(vectors);
  message.msg_iovlen = count;
  return message;
}

}  // namespace

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
