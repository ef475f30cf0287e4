// What PEM text holds, as OpenSSL's objects.
#pragma once

#include <openssl/x509.h>

#include <memory>
#include <string>
#include <vector>

#include "common/status.h"

namespace tidemark::nbd {

struct X509Delete {
  void operator()(X509* certificate) const noexcept { X509_free(certificate); }
  void operator()(X509_CRL* list) const noexcept { X509_CRL_free(list); }
  void operator()(EVP_PKEY* key) const noexcept { EVP_PKEY_free(key); }
};
using CertificatePtr = std::unique_ptr<X509, X509Delete>;
using RevocationListPtr = std::unique_ptr<X509_CRL, X509Delete>;
using KeyPtr = std::unique_ptr<EVP_PKEY, X509Delete>;

struct PemContent {
  std::vector<CertificatePtr> certificates;  // as they follow one another
  std::vector<RevocationListPtr> revocation_lists;
};

// `what` names the text in the message. kCorrupt when it holds no certificate.
Result<PemContent> read_certificates(const std::string& pem, const std::string& what);
// kCorrupt also for a key behind a passphrase: nobody is there to be asked.
Result<KeyPtr> read_private_key(const std::string& pem);

// "reason of the newest error", and the thread's queue of errors is empty.
std::string take_openssl_error();

}  // namespace tidemark::nbd
