// What a block's content hashes to in a table of known content.
//
// 128 bits of SHA-256: that two contents of one block meet by chance is out of reach. Who
// makes them meet on purpose needs about 2^64 tries, and to know the salt, which is drawn
// anew with each table and is readable by the service alone.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <span>

struct evp_md_ctx_st;

namespace tidemark {

using BlockHash = std::array<std::byte, 16>;
using HashSalt = std::array<std::byte, 16>;

inline constexpr BlockHash kUnknownHash{};

// One thread at a time.
class BlockHasher {
 public:
  explicit BlockHasher(const HashSalt& salt);

  BlockHash hash(std::span<const std::byte> content);

 private:
  struct Free {
    void operator()(evp_md_ctx_st* context) const noexcept;
  };

  HashSalt salt_;
  std::unique_ptr<evp_md_ctx_st, Free> context_;
};

}  // namespace tidemark
