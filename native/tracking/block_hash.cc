#include "tracking/block_hash.h"

#include <openssl/evp.h>

#include <algorithm>
#include <cstdlib>

namespace tidemark {

void BlockHasher::Free::operator()(evp_md_ctx_st* context) const noexcept {
  EVP_MD_CTX_free(context);
}

BlockHasher::BlockHasher(const HashSalt& salt) : salt_(salt), context_(EVP_MD_CTX_new()) {
  // Only without memory: a hash that is not one must never look like one.
  if (context_ == nullptr || EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) != 1) {
    std::abort();
  }
}

BlockHash BlockHasher::hash(std::span<const std::byte> content) {
  std::array<unsigned char, 32> digest;
  const bool is_hashed = EVP_DigestUpdate(context_.get(), salt_.data(), salt_.size()) == 1 &&
                         EVP_DigestUpdate(context_.get(), content.data(), content.size()) == 1 &&
                         EVP_DigestFinal_ex(context_.get(), digest.data(), nullptr) == 1 &&
                         EVP_DigestInit_ex(context_.get(), nullptr, nullptr) == 1;
  if (!is_hashed) std::abort();
  BlockHash hash;
  std::copy_n(reinterpret_cast<const std::byte*>(digest.data()), hash.size(), hash.begin());
  return hash;
}

}  // namespace tidemark
