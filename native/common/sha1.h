// SHA-1 (FIPS 180-4): for UUIDs made from names (RFC 9562, version 5), where it is
// an identifier and protects nothing.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace tidemark {

std::array<uint8_t, 20> sha1(std::string_view message);

}  // namespace tidemark
