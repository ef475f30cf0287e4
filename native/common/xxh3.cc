#include "common/xxh3.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <cstring>

namespace tidemark {

struct Xxh3::State {
  XXH3_state_t of;
};

Xxh3::Xxh3() : state_(std::make_unique<State>()) { XXH3_128bits_reset(&state_->of); }
Xxh3::~Xxh3() = default;

void Xxh3::update(std::span<const std::byte> bytes) noexcept {
  XXH3_128bits_update(&state_->of, bytes.data(), bytes.size());
}

std::array<std::byte, 16> Xxh3::digest() const noexcept {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(&state_->of));
  std::array<std::byte, 16> digest;
  std::memcpy(digest.data(), canonical.digest, digest.size());
  return digest;
}

}  // namespace tidemark
