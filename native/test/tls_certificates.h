// Certificates for tests, made on the spot: an authority and what it issues.
#pragma once

#include <doctest/doctest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <memory>
#include <string>

namespace nbd_test {

struct CertificateOptions {
  std::string common_name = "host";
  std::string alternative_names = "DNS:localhost,IP:127.0.0.1";  // "" for none
  std::string extended_usage = "clientAuth,serverAuth";          // "" for none
  long begins_in_s = -3600;
  long ends_in_s = 3600;
  bool is_authority = false;
};

struct Identity {
  std::shared_ptr<X509> certificate;
  std::shared_ptr<EVP_PKEY> key;
  std::string certificate_pem;
  std::string key_pem;
};

inline std::string text_in(BIO* bio) {
  char* bytes = nullptr;
  const long length = BIO_get_mem_data(bio, &bytes);
  std::string text(bytes, static_cast<size_t>(length));
  BIO_free(bio);
  return text;
}

inline void add_extension(X509* certificate, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str());
  REQUIRE_MESSAGE(extension != nullptr, value);
  X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
}

// Signed by `issuer`, or by itself.
inline Identity make_identity(const CertificateOptions& options, const Identity* issuer = nullptr) {
  static long last_serial = 1000;
  Identity made;
  made.key.reset(EVP_EC_gen("P-256"), &EVP_PKEY_free);
  made.certificate.reset(X509_new(), &X509_free);
  X509* certificate = made.certificate.get();
  X509_set_version(certificate, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), ++last_serial);
  X509_gmtime_adj(X509_getm_notBefore(certificate), options.begins_in_s);
  X509_gmtime_adj(X509_getm_notAfter(certificate), options.ends_in_s);
  X509_NAME* subject = X509_get_subject_name(certificate);
  X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>(options.common_name.data()),
                             static_cast<int>(options.common_name.size()), -1, 0);
  X509* signer = issuer != nullptr ? issuer->certificate.get() : certificate;
  X509_set_issuer_name(certificate, X509_get_subject_name(signer));
  X509_set_pubkey(certificate, made.key.get());
  add_extension(certificate, signer, NID_basic_constraints,
                options.is_authority ? "critical,CA:TRUE" : "critical,CA:FALSE");
  if (!options.extended_usage.empty()) {
    add_extension(certificate, signer, NID_ext_key_usage, options.extended_usage);
  }
  if (!options.alternative_names.empty()) {
    add_extension(certificate, signer, NID_subject_alt_name, options.alternative_names);
  }
  EVP_PKEY* signing_key = issuer != nullptr ? issuer->key.get() : made.key.get();
  REQUIRE(X509_sign(certificate, signing_key, EVP_sha256()) > 0);
  BIO* certificate_bio = BIO_new(BIO_s_mem());
  PEM_write_bio_X509(certificate_bio, certificate);
  made.certificate_pem = text_in(certificate_bio);
  BIO* key_bio = BIO_new(BIO_s_mem());
  PEM_write_bio_PrivateKey(key_bio, made.key.get(), nullptr, nullptr, 0, nullptr, nullptr);
  made.key_pem = text_in(key_bio);
  return made;
}

inline Identity make_authority(const std::string& name = "test CA") {
  CertificateOptions options;
  options.common_name = name;
  options.alternative_names.clear();
  options.extended_usage.clear();
  options.is_authority = true;
  return make_identity(options);
}

// A revocation list, PEM, that names `revoked`.
inline std::string make_revocation_list(const Identity& authority, const Identity& revoked) {
  std::unique_ptr<X509_CRL, void (*)(X509_CRL*)> list(X509_CRL_new(), &X509_CRL_free);
  X509_CRL_set_version(list.get(), 1);
  X509_CRL_set_issuer_name(list.get(), X509_get_subject_name(authority.certificate.get()));
  std::unique_ptr<ASN1_TIME, void (*)(ASN1_TIME*)> now(X509_gmtime_adj(nullptr, -60),
                                                       &ASN1_TIME_free);
  std::unique_ptr<ASN1_TIME, void (*)(ASN1_TIME*)> next(X509_gmtime_adj(nullptr, 3600),
                                                        &ASN1_TIME_free);
  X509_CRL_set1_lastUpdate(list.get(), now.get());
  X509_CRL_set1_nextUpdate(list.get(), next.get());
  X509_REVOKED* entry = X509_REVOKED_new();
  X509_REVOKED_set_serialNumber(entry, X509_get_serialNumber(revoked.certificate.get()));
  X509_REVOKED_set_revocationDate(entry, now.get());
  X509_CRL_add0_revoked(list.get(), entry);
  REQUIRE(X509_CRL_sign(list.get(), authority.key.get(), EVP_sha256()) > 0);
  BIO* bio = BIO_new(BIO_s_mem());
  PEM_write_bio_X509_CRL(bio, list.get());
  return text_in(bio);
}

}  // namespace nbd_test
