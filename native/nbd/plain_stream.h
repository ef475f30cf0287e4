// PlainStream: a socket's bytes as they are; one system call a call.
#pragma once

#include "nbd/byte_stream.h"

namespace tidemark::nbd {

class PlainStream final : public ByteStream {
 public:
  explicit PlainStream(int socket_fd) noexcept : socket_fd_(socket_fd) {}  // not its owner

  ssize_t receive(const iovec* vectors, size_t count) noexcept override;
  ssize_t send(const iovec* vectors, size_t count) noexcept override;
  bool has_received() const noexcept override { return false; }
  bool has_unsent() const noexcept override { return false; }
  ssize_t flush() noexcept override { return 0; }
  void end() noexcept override {}

 private:
  const int socket_fd_;
};

}  // namespace tidemark::nbd
