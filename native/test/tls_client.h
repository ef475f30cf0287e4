// TlsClient: a client's end of TLS over a socket, by OpenSSL itself.
#pragma once

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "nbd_raw_client.h"
#include "tls_certificates.h"

namespace nbd_test {

struct TlsClientOptions {
  const Identity* identity = nullptr;   // null: shows no certificate
  const Identity* authority = nullptr;  // null: takes any server
  int version = 0;                      // only this one; 0: any
};

class TlsClient : public InnerStream {
 public:
  TlsClient(int fd, const TlsClientOptions& options) : context_(SSL_CTX_new(TLS_client_method())) {
    ::signal(SIGPIPE, SIG_IGN);  // OpenSSL's socket BIO writes without MSG_NOSIGNAL
    // A test that waits so long has failed.
    const timeval limit{20, 0};
    ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    configure(options);
    ssl_.reset(SSL_new(context_.get()));
    SSL_set_connect_state(ssl_.get());
    SSL_set_fd(ssl_.get(), fd);
  }

  SSL* ssl() const { return ssl_.get(); }
  bool shake_hands() {
    ERR_clear_error();
    return SSL_do_handshake(ssl_.get()) == 1;
  }

  ssize_t read(void* into, size_t at_most_bytes) override {
    ERR_clear_error();
    const int part = SSL_read(ssl_.get(), into, static_cast<int>(at_most_bytes));
    last_error_ = part > 0 ? SSL_ERROR_NONE : SSL_get_error(ssl_.get(), part);
    return part;
  }
  ssize_t write(const void* bytes, size_t length_bytes) override {
    ERR_clear_error();
    return SSL_write(ssl_.get(), bytes, static_cast<int>(length_bytes));
  }
  // Of the last read(): SSL_ERROR_ZERO_RETURN is an orderly end.
  int last_error() const { return last_error_; }

 private:
  struct Delete {
    void operator()(SSL* ssl) const { SSL_free(ssl); }
    void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
  };

  void configure(const TlsClientOptions& options) {
    SSL_CTX* context = context_.get();
    // Old versions are for a server to refuse, not for this library.
    SSL_CTX_set_security_level(context, 0);
    if (options.version != 0) {
      SSL_CTX_set_min_proto_version(context, options.version);
      SSL_CTX_set_max_proto_version(context, options.version);
    }
    if (options.identity != nullptr) {
      SSL_CTX_use_certificate(context, options.identity->certificate.get());
      SSL_CTX_use_PrivateKey(context, options.identity->key.get());
    }
    if (options.authority != nullptr) {
      X509_STORE_add_cert(SSL_CTX_get_cert_store(context), options.authority->certificate.get());
      SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
    }
  }

  std::unique_ptr<SSL_CTX, Delete> context_;
  std::unique_ptr<SSL, Delete> ssl_;
  int last_error_ = SSL_ERROR_NONE;
};

// Greeting and STARTTLS in the clear, then the TLS handshake. Null when the
// client or the server refuses it, and the server has closed the connection.
inline TlsClient* try_tls(RawClient& client, const TlsClientOptions& options = {}) {
  client.greet();
  REQUIRE(client.ask(OPT_STARTTLS).type == REP_ACK);
  auto inner = std::make_unique<TlsClient>(client.fd(), options);
  TlsClient* tls = inner.get();
  if (!tls->shake_hands()) {
    client.receive_rest();
    return nullptr;
  }
  client.go_inside(std::move(inner));
  return tls;
}

inline TlsClient& begin_tls(RawClient& client, const TlsClientOptions& options = {}) {
  TlsClient* tls = try_tls(client, options);
  REQUIRE(tls != nullptr);
  return *tls;
}

}  // namespace nbd_test
