#include "common/sha256.h"

#include <openssl/evp.h>

#include <cstdlib>

namespace tidemark {

Sha256 sha256(std::span<const std::byte> message) {
  Sha256 digest;
  unsigned length = 0;
  const int done =
      EVP_Digest(message.data(), message.size(), reinterpret_cast<unsigned char*>(digest.data()),
                 &length, EVP_sha256(), nullptr);
  // Only without memory: a digest that is not one must never look like one.
  if (done != 1 || length != digest.size()) std::abort();
  return digest;
}

}  // namespace tidemark
