// TlsContext: what the server shows to TLS clients and what it asks of them,
// checked and ready. Immutable, so that connections on any thread share it; a
// renewed certificate is another TlsContext.
#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <string>
#include <vector>

#include "common/status.h"
#include "nbd/nbd_server.h"

namespace tidemark::nbd {

struct SslDelete {
  void operator()(SSL* ssl) const noexcept { SSL_free(ssl); }
  void operator()(SSL_CTX* context) const noexcept { SSL_CTX_free(context); }
};
using SslPtr = std::unique_ptr<SSL, SslDelete>;
using SslContextPtr = std::unique_ptr<SSL_CTX, SslDelete>;

class TlsContext {
 public:
  // kCorrupt (not what it should be), kForeign (the key of another certificate),
  // kInvalidArgument (expired, or for another use).
  static Result<std::shared_ptr<const TlsContext>> create(const NbdTlsParameters& parameters);

  // A server's end of one connection; null without memory. Its application data
  // must be a std::string, which is told why the client was not let in.
  SslPtr new_ssl() const noexcept { return SslPtr(SSL_new(context_.get())); }

 private:
  TlsContext() = default;
  static int verify(int is_trusted, X509_STORE_CTX* store_context) noexcept;
  Status load_identity(const NbdTlsParameters& parameters);
  Status load_authority(const NbdTlsParameters& parameters);

  SslContextPtr context_;
  std::vector<std::string> allowed_clients_;  // empty: whoever the authority signed for
};

}  // namespace tidemark::nbd
