// PlainStream: a socket's bytes as they are; one system call a call.
//
// A large payload over TCP comes in dozens of pieces, and to be woken for each costs
// more than the pieces: the socket's low water mark leaves them to gather (half a
// megabyte gave 1 MiB writes a tenth to a fifth more throughput, a quarter nothing).
#pragma once

#include "nbd/byte_stream.h"

namespace tidemark::nbd {

class PlainStream final : public ByteStream {
 public:
  explicit PlainStream(int socket_fd) noexcept;  // not its owner

  ssize_t receive(const iovec* vectors, size_t count) noexcept override;
  void expect(size_t length_bytes) noexcept override;
  ssize_t send(const iovec* vectors, size_t count) noexcept override;
  bool has_received() const noexcept override { return false; }
  bool has_unsent() const noexcept override { return false; }
  ssize_t flush() noexcept override { return 0; }
  void end() noexcept override {}

 private:
  const int socket_fd_;
  const bool is_tcp_;
  size_t low_water_bytes_ = 1;
};

}  // namespace tidemark::nbd
