// ByteStream: the bytes of a connection, plain or inside TLS. A connection calls
// it once for a batch of requests and once for a batch of replies.
//
// receive() and send() answer as recvmsg() and sendmsg() do: never blocking, how
// many bytes, 0 at the peer's orderly end, or -1 with errno (EAGAIN: try again
// when the poller says so; anything else: the connection is lost).
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include <cstddef>

namespace tidemark::nbd {

class ByteStream {
 public:
  virtual ~ByteStream() = default;

  virtual ssize_t receive(const iovec* vectors, size_t count) noexcept = 0;
  // So many bytes of one message are on their way (0: nobody knows). The poller need not
  // say that fewer are here, until this is called again.
  virtual void expect(size_t length_bytes) noexcept = 0;
  virtual ssize_t send(const iovec* vectors, size_t count) noexcept = 0;

  // It holds received bytes that the poller cannot know of: receive() again.
  virtual bool has_received() const noexcept = 0;

  // It took bytes that the socket has not taken yet. flush() tries again; as
  // send(), but 0 when nothing is left.
  virtual bool has_unsent() const noexcept = 0;
  virtual ssize_t flush() noexcept = 0;

  // The last call: tells the peer that this is the end. Best effort.
  virtual void end() noexcept = 0;
};

}  // namespace tidemark::nbd
