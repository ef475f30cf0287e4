// SHA-256 by the OpenSSL that the process has: as fast as the processor can.
#pragma once

#include <array>
#include <cstddef>
#include <span>

namespace tidemark {

using Sha256 = std::array<std::byte, 32>;

Sha256 sha256(std::span<const std::byte> message);

}  // namespace tidemark
