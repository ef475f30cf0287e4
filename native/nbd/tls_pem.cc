#include "nbd/tls_pem.h"

#include <openssl/err.h>
#include <openssl/pem.h>

namespace tidemark::nbd {

namespace {

struct BioDelete {
  void operator()(BIO* bio) const noexcept { BIO_free(bio); }
};
using BioPtr = std::unique_ptr<BIO, BioDelete>;

struct InfosDelete {
  void operator()(STACK_OF(X509_INFO) * infos) const noexcept {
    sk_X509_INFO_pop_free(infos, X509_INFO_free);
  }
};

BioPtr bio_of(const std::string& text) {
  return BioPtr(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

// Else OpenSSL would ask on the terminal.
int no_passphrase(char*, int, int, void*) { return -1; }

}  // namespace

Result<PemContent> read_certificates(const std::string& pem, const std::string& what) {
  const BioPtr bio = bio_of(pem);
  const std::unique_ptr<STACK_OF(X509_INFO), InfosDelete> infos(
      PEM_X509_INFO_read_bio(bio.get(), nullptr, no_passphrase, nullptr));
  PemContent content;
  for (int i = 0; infos != nullptr && i < sk_X509_INFO_num(infos.get()); ++i) {
    X509_INFO* info = sk_X509_INFO_value(infos.get(), i);
    if (info->x509 != nullptr) {
      content.certificates.emplace_back(std::exchange(info->x509, nullptr));
    }
    if (info->crl != nullptr) {
      content.revocation_lists.emplace_back(std::exchange(info->crl, nullptr));
    }
  }
  ERR_clear_error();
  if (!content.certificates.empty()) return content;
  return Status(ErrorCode::kCorrupt, "Cannot use the " + what +
                                         ": because it holds no certificate. Give an X.509 "
                                         "certificate in PEM format.");
}

Result<KeyPtr> read_private_key(const std::string& pem) {
  const BioPtr bio = bio_of(pem);
  KeyPtr key(PEM_read_bio_PrivateKey(bio.get(), nullptr, no_passphrase, nullptr));
  ERR_clear_error();
  if (key != nullptr) return key;
  return Status(ErrorCode::kCorrupt,
                "Cannot use the server's key: because it is no unencrypted private key. Give one "
                "in PEM format, without a passphrase.");
}

std::string take_openssl_error() {
  const unsigned long error = ERR_peek_last_error();
  const char* reason = error != 0 ? ERR_reason_error_string(error) : nullptr;
  ERR_clear_error();
  return reason != nullptr ? reason : "";
}

}  // namespace tidemark::nbd
