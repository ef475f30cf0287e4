// TlsStream: a server's end of TLS over a socket.
//
// OpenSSL never touches the socket: records lie in two CipherBuffers, filled by
// one receive and emptied by one send a batch. receive() also carries on the TLS
// handshake, whose answers flush() sends. Small replies are gathered into
// records of full size.
#pragma once

#include <array>
#include <memory>
#include <string>

#include "nbd/byte_stream.h"
#include "nbd/cipher_bio.h"
#include "nbd/tls_settings.h"

namespace tidemark::nbd {

class TlsStream final : public ByteStream {
 public:
  // Takes the context that `settings` hold now. Not the socket's owner. Null
  // without memory.
  static std::unique_ptr<TlsStream> create(int socket_fd, TlsSettings& settings, ChunkPool& pool,
                                           size_t& account_bytes);
  ~TlsStream() override;

  ssize_t receive(const iovec* vectors, size_t count) noexcept override;
  // Records are decrypted as they come.
  void expect(size_t) noexcept override {}
  ssize_t send(const iovec* vectors, size_t count) noexcept override;
  bool has_received() const noexcept override { return !is_drained_; }
  bool has_unsent() const noexcept override { return !buffers_.outgoing.is_empty(); }
  ssize_t flush() noexcept override;
  void end() noexcept override;

 private:
  static constexpr size_t kRecordBytes = 16 * 1024;
  using Record = std::array<std::byte, kRecordBytes>;
  struct Cursor;

  TlsStream(int socket_fd, TlsSettings& settings, ChunkPool& pool, size_t& account_bytes);

  ssize_t fill() noexcept;
  ssize_t decrypt(const iovec* vectors, size_t count) noexcept;
  ssize_t stopped(size_t taken_bytes, int ssl_error) noexcept;
  size_t encrypt(const iovec* vectors, size_t count) noexcept;
  ssize_t fail(const std::string& reason) noexcept;
  std::string reason() const;
  void note_refusal(const std::string& reason) noexcept;

  const int socket_fd_;
  TlsSettings& settings_;
  const std::string peer_name_;  // it cannot be asked for once the peer has reset the connection
  const std::shared_ptr<const TlsContext> context_;
  CipherBuffers buffers_;  // before ssl_, which reaches into it
  std::string refusal_;    // written by the context while it verifies the client
  SslPtr ssl_;
  bool is_drained_ = true;  // OpenSSL has asked for more than there is
  bool is_established_ = false;
  bool is_failed_ = false;
};

}  // namespace tidemark::nbd
