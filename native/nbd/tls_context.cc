#include "nbd/tls_context.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "nbd/tls_client_names.h"
#include "nbd/tls_pem.h"

namespace tidemark::nbd {

namespace {

// Forward secret and authenticated; AES-128 first, as it is the fastest where
// the CPU knows AES, and ChaCha20 for clients that ask for it first.
constexpr const char* kTls13Ciphers =
    "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
constexpr const char* kTls12Ciphers =
    "ECDHE+AESGCM+AES128:ECDHE+AESGCM+AES256:ECDHE+CHACHA20:!aNULL:!PSK:!SRP";

// No resumption: each connection proves both identities.
constexpr uint64_t kOptions = SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET |
                              SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA;

Status no_openssl() {
  return Status(ErrorCode::kUnsupported,
                "Cannot use TLS: because OpenSSL refuses it (" + take_openssl_error() + ").");
}

Status check_identity(X509* certificate, EVP_PKEY* key) {
  const auto cannot = [](ErrorCode code, const std::string& reason) {
    return Status(code, "Cannot use the server's certificate: because " + reason);
  };
  if (X509_check_private_key(certificate, key) != 1) {
    ERR_clear_error();
    return cannot(ErrorCode::kForeign,
                  "the key is not its key. Give the key that was made with it.");
  }
  if (X509_cmp_current_time(X509_get0_notAfter(certificate)) <= 0) {
    return cannot(ErrorCode::kInvalidArgument, "it has expired. Issue a new one.");
  }
  if (X509_cmp_current_time(X509_get0_notBefore(certificate)) > 0) {
    return cannot(ErrorCode::kInvalidArgument,
                  "it is not valid yet. Check this host's clock, or issue a new one.");
  }
  // All bits are set when it has no extended key usage at all.
  if ((X509_get_extended_key_usage(certificate) & XKU_SSL_SERVER) == 0) {
    return cannot(ErrorCode::kInvalidArgument,
                  "its extended key usage does not name serverAuth. Issue one for a server.");
  }
  return Status::ok();
}

std::string listed(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text.empty() ? "it has none" : text.substr(0, 200);
}

bool add_to_store(X509_STORE* store, const PemContent& authority) {
  for (const CertificatePtr& certificate : authority.certificates) {
    if (X509_STORE_add_cert(store, certificate.get()) != 1) return false;
  }
  for (const RevocationListPtr& list : authority.revocation_lists) {
    if (X509_STORE_add_crl(store, list.get()) != 1) return false;
  }
  return true;
}

}  // namespace

Result<std::shared_ptr<const TlsContext>> TlsContext::create(const NbdTlsParameters& parameters) {
  std::shared_ptr<TlsContext> self(new TlsContext());
  self->context_.reset(SSL_CTX_new(TLS_server_method()));
  SSL_CTX* context = self->context_.get();
  if (context == nullptr || SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1 ||
      SSL_CTX_set_ciphersuites(context, kTls13Ciphers) != 1 ||
      SSL_CTX_set_cipher_list(context, kTls12Ciphers) != 1) {
    return no_openssl();
  }
  SSL_CTX_set_options(context, kOptions);
  SSL_CTX_set_num_tickets(context, 0);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  // An idle connection holds no record buffers.
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_AUTO_RETRY);
  if (Status status = self->load_identity(parameters); !status.is_ok()) return status;
  if (Status status = self->load_authority(parameters); !status.is_ok()) return status;
  return std::shared_ptr<const TlsContext>(std::move(self));
}

Status TlsContext::load_identity(const NbdTlsParameters& parameters) {
  const auto chain = read_certificates(parameters.certificate_pem, "server's certificate");
  if (!chain.is_ok()) return chain.status();
  const auto key = read_private_key(parameters.key_pem);
  if (!key.is_ok()) return key.status();
  const auto& certificates = chain.value().certificates;
  Status status = check_identity(certificates[0].get(), key.value().get());
  if (!status.is_ok()) return status;
  SSL_CTX* context = context_.get();
  bool is_loaded = SSL_CTX_use_certificate(context, certificates[0].get()) == 1 &&
                   SSL_CTX_use_PrivateKey(context, key.value().get()) == 1;
  for (size_t i = 1; is_loaded && i < certificates.size(); ++i) {
    is_loaded = SSL_CTX_add1_chain_cert(context, certificates[i].get()) == 1;
  }
  return is_loaded ? Status::ok() : no_openssl();
}

Status TlsContext::load_authority(const NbdTlsParameters& parameters) {
  SSL_CTX* context = context_.get();
  if (parameters.authority_pem.empty()) {
    if (parameters.allowed_clients.empty()) return Status::ok();
    return Status(ErrorCode::kInvalidArgument,
                  "Cannot allow clients by name: because without a client CA they show no "
                  "certificate. Give the CA that signs theirs.");
  }
  const auto authority = read_certificates(parameters.authority_pem, "client CA");
  if (!authority.is_ok()) return authority.status();
  for (const std::string& pattern : parameters.allowed_clients) {
    if (Status status = check_client_pattern(pattern); !status.is_ok()) return status;
  }
  allowed_clients_ = parameters.allowed_clients;
  X509_STORE* store = SSL_CTX_get_cert_store(context);
  if (!add_to_store(store, authority.value())) return no_openssl();
  unsigned long flags = X509_V_FLAG_PARTIAL_CHAIN;  // an intermediate CA may be the one trusted
  if (!authority.value().revocation_lists.empty()) flags |= X509_V_FLAG_CRL_CHECK;
  X509_STORE_set_flags(store, flags);
  for (const CertificatePtr& certificate : authority.value().certificates) {
    SSL_CTX_add_client_CA(context, certificate.get());
  }
  SSL_CTX_set_app_data(context, this);
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
                     &TlsContext::verify);
  return Status::ok();
}

// Called for each certificate of the client's chain, its own last.
int TlsContext::verify(int is_trusted, X509_STORE_CTX* store_context) noexcept {
  if (is_trusted != 1 || X509_STORE_CTX_get_error_depth(store_context) != 0) return is_trusted;
  auto* ssl = static_cast<SSL*>(
      X509_STORE_CTX_get_ex_data(store_context, SSL_get_ex_data_X509_STORE_CTX_idx()));
  const auto* self = static_cast<const TlsContext*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
  auto& refusal = *static_cast<std::string*>(SSL_get_app_data(ssl));
  X509* certificate = X509_STORE_CTX_get_current_cert(store_context);
  // TLS takes a certificate without extended key usage for anything; we do not.
  const uint32_t usage = X509_get_extended_key_usage(certificate);
  if (usage == UINT32_MAX || (usage & XKU_SSL_CLIENT) == 0) {
    refusal = "its certificate's extended key usage does not name clientAuth";
    X509_STORE_CTX_set_error(store_context, X509_V_ERR_INVALID_PURPOSE);
    return 0;
  }
  if (!is_client_allowed(certificate, self->allowed_clients_)) {
    refusal = "no client of its names is allowed (" + listed(names_of(certificate)) + ")";
    X509_STORE_CTX_set_error(store_context, X509_V_ERR_HOSTNAME_MISMATCH);
    return 0;
  }
  return 1;
}

}  // namespace tidemark::nbd
