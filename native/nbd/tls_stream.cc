#include "nbd/tls_stream.h"

#include <openssl/err.h>
#include <sys/socket.h>

#include <cerrno>

#include "nbd/peer_name.h"
#include "nbd/tls_pem.h"

namespace tidemark::nbd {

namespace {

// A record's header, padding and tag, and room for an alert or key update that
// OpenSSL writes while it reads.
constexpr size_t kRecordOverheadBytes = 512 + 2048;

ssize_t answer(int error) noexcept {
  errno = error;
  return -1;
}

}  // namespace

// Walks over vectors in pieces of a record.
struct TlsStream::Cursor {
  const iovec* vector;
  size_t vectors_left;
  size_t offset_bytes = 0;

  // In place where a record's worth lies there, else gathered into `record`.
  std::span<const std::byte> next(Record& record) noexcept {
    skip_empty();
    if (vectors_left == 0) return {};
    const size_t here = vector->iov_len - offset_bytes;
    if (here >= record.size() || vectors_left == 1) {
      return take(std::min(here, record.size()));
    }
    size_t gathered = 0;
    while (gathered < record.size() && vectors_left > 0) {
      const auto piece = take(std::min(vector->iov_len - offset_bytes, record.size() - gathered));
      std::memcpy(record.data() + gathered, piece.data(), piece.size());
      gathered += piece.size();
      skip_empty();
    }
    return {record.data(), gathered};
  }

 private:
  std::span<const std::byte> take(size_t length_bytes) noexcept {
    const auto* from = static_cast<const std::byte*>(vector->iov_base) + offset_bytes;
    offset_bytes += length_bytes;
    return {from, length_bytes};
  }
  void skip_empty() noexcept {
    while (vectors_left > 0 && offset_bytes == vector->iov_len) {
      ++vector;
      --vectors_left;
      offset_bytes = 0;
    }
  }
};

TlsStream::TlsStream(int socket_fd, TlsSettings& settings, ChunkPool& pool, size_t& account_bytes)
    : socket_fd_(socket_fd),
      settings_(settings),
      context_(settings.context()),
      buffers_{CipherBuffer(pool, account_bytes), CipherBuffer(pool, account_bytes)},
      ssl_(context_->new_ssl()) {}

std::unique_ptr<TlsStream> TlsStream::create(int socket_fd, TlsSettings& settings, ChunkPool& pool,
                                             size_t& account_bytes) {
  std::unique_ptr<TlsStream> self(new TlsStream(socket_fd, settings, pool, account_bytes));
  BIO* bio = self->ssl_ != nullptr ? new_cipher_bio(self->buffers_) : nullptr;
  if (bio == nullptr) {
    ERR_clear_error();
    return nullptr;
  }
  SSL_set_bio(self->ssl_.get(), bio, bio);
  SSL_set_app_data(self->ssl_.get(), &self->refusal_);
  SSL_set_accept_state(self->ssl_.get());
  return self;
}

TlsStream::~TlsStream() {
  if (!is_established_ && !is_failed_) note_refusal("it did not complete the TLS handshake");
  ssl_.reset();
  ERR_clear_error();
}

ssize_t TlsStream::receive(const iovec* vectors, size_t count) noexcept {
  if (is_failed_) return answer(EPROTO);
  if (is_drained_) {
    const ssize_t filled = fill();
    if (filled == 0) return fail("it hung up");
    if (filled < 0) return -1;
    is_drained_ = false;
  }
  return decrypt(vectors, count);
}

ssize_t TlsStream::fill() noexcept {
  CipherBuffer& incoming = buffers_.incoming;
  std::byte* room = incoming.room();
  if (room == nullptr) return answer(ENOMEM);
  ssize_t length;
  do {
    length = ::recv(socket_fd_, room, incoming.room_bytes(), MSG_DONTWAIT);
  } while (length < 0 && errno == EINTR);
  const int error = errno;
  if (length > 0) incoming.filled(static_cast<size_t>(length));
  if (length <= 0) incoming.clear();
  errno = error;
  return length;
}

ssize_t TlsStream::decrypt(const iovec* vectors, size_t count) noexcept {
  ERR_clear_error();
  size_t taken = 0;
  for (size_t i = 0; i < count; ++i) {
    auto* into = static_cast<std::byte*>(vectors[i].iov_base);
    size_t left = vectors[i].iov_len;
    while (left > 0) {
      size_t part = 0;
      const int result = SSL_read_ex(ssl_.get(), into, left, &part);
      if (!is_established_) is_established_ = SSL_is_init_finished(ssl_.get()) == 1;
      if (result != 1) return stopped(taken, SSL_get_error(ssl_.get(), result));
      into += part;
      left -= part;
      taken += part;
    }
  }
  return static_cast<ssize_t>(taken);
}

// What was read before comes first; the next call then says the rest.
ssize_t TlsStream::stopped(size_t taken_bytes, int ssl_error) noexcept {
  if (ssl_error == SSL_ERROR_WANT_READ) {
    is_drained_ = true;
    return taken_bytes > 0 ? static_cast<ssize_t>(taken_bytes) : answer(EAGAIN);
  }
  if (ssl_error == SSL_ERROR_ZERO_RETURN) return static_cast<ssize_t>(taken_bytes);
  // WANT_WRITE is one too: a client that never reads makes us answer without end.
  const ssize_t lost = fail(reason());
  return taken_bytes > 0 ? static_cast<ssize_t>(taken_bytes) : lost;
}

// The alert that OpenSSL has written tells the client why.
ssize_t TlsStream::fail(const std::string& reason) noexcept {
  is_failed_ = true;
  if (!is_established_) note_refusal(reason);
  ERR_clear_error();
  flush();
  return answer(EPROTO);
}

std::string TlsStream::reason() const {
  if (!refusal_.empty()) return refusal_;
  const long verified = SSL_get_verify_result(ssl_.get());
  if (verified != X509_V_OK) {
    return std::string("its certificate is not accepted (") +
           X509_verify_cert_error_string(verified) + ")";
  }
  const std::string error = take_openssl_error();
  return "the TLS handshake failed" + (error.empty() ? error : " (" + error + ")");
}

void TlsStream::note_refusal(const std::string& reason) noexcept {
  settings_.note_refusal("Cannot accept " + peer_name_of(socket_fd_) + ": because " + reason + ".");
}

ssize_t TlsStream::send(const iovec* vectors, size_t count) noexcept {
  if (is_failed_) return answer(EPROTO);
  if (flush() < 0) return -1;
  const size_t taken = encrypt(vectors, count);
  if (taken == 0) return fail(reason());
  if (flush() < 0 && errno != EAGAIN && errno != EWOULDBLOCK) return -1;
  return static_cast<ssize_t>(taken);
}

size_t TlsStream::encrypt(const iovec* vectors, size_t count) noexcept {
  ERR_clear_error();
  Record gathered;
  Cursor cursor{vectors, count};
  size_t taken = 0;
  while (buffers_.outgoing.room_bytes() >= kRecordBytes + kRecordOverheadBytes) {
    const std::span<const std::byte> record = cursor.next(gathered);
    if (record.empty()) break;
    size_t written = 0;
    if (SSL_write_ex(ssl_.get(), record.data(), record.size(), &written) != 1) return 0;
    taken += written;
  }
  return taken;
}

ssize_t TlsStream::flush() noexcept {
  CipherBuffer& outgoing = buffers_.outgoing;
  while (!outgoing.is_empty()) {
    const auto content = outgoing.content();
    const ssize_t sent =
        ::send(socket_fd_, content.data(), content.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) {
      outgoing.consume(static_cast<size_t>(sent));
    } else if (errno != EINTR) {
      return -1;
    }
  }
  return 0;
}

void TlsStream::end() noexcept {
  if (!is_established_ || is_failed_) return;
  SSL_shutdown(ssl_.get());
  ERR_clear_error();
  flush();
}

}  // namespace tidemark::nbd
