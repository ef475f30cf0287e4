// A sector of a file's format, with the checksum of all before it in its last four bytes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "common/byte_order.h"
#include "common/crc32c.h"

namespace tidemark {

inline constexpr size_t kSealedSectorBytes = 512;
inline constexpr size_t kSealAt = 508;

using SealedSector = std::array<std::byte, kSealedSectorBytes>;

inline void seal_sector(std::span<std::byte, kSealedSectorBytes> sector) noexcept {
  store_le<uint32_t>(sector.data() + kSealAt, crc32c(sector.data(), kSealAt));
}

inline bool seal_holds(std::span<const std::byte, kSealedSectorBytes> sector) noexcept {
  return load_le<uint32_t>(sector.data() + kSealAt) == crc32c(sector.data(), kSealAt);
}

}  // namespace tidemark
