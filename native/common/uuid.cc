#include "common/uuid.h"

#include <sys/random.h>

#include <algorithm>
#include <cstdlib>

namespace tidemark {

namespace {

int nibble_of(char c) noexcept {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool hyphen_at(size_t index) noexcept {
  return index == 8 || index == 13 || index == 18 || index == 23;
}

}  // namespace

bool Uuid::is_nil() const noexcept {
  return std::all_of(bytes.begin(), bytes.end(), [](uint8_t b) { return b == 0; });
}

std::string Uuid::to_string() const {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string text;
  text.reserve(36);
  for (uint8_t byte : bytes) {
    if (hyphen_at(text.size())) text.push_back('-');
    text.push_back(kHex[byte >> 4]);
    text.push_back(kHex[byte & 15]);
  }
  return text;
}

Uuid Uuid::random() {
  Uuid uuid;
  if (::getrandom(uuid.bytes.data(), uuid.bytes.size(), 0) != 16) std::abort();
  uuid.bytes[6] = static_cast<uint8_t>((uuid.bytes[6] & 0x0f) | 0x40);
  uuid.bytes[8] = static_cast<uint8_t>((uuid.bytes[8] & 0x3f) | 0x80);
  return uuid;
}

std::optional<Uuid> Uuid::parse(std::string_view text) {
  if (text.size() != 36) return std::nullopt;
  Uuid uuid;
  size_t digit_count = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (hyphen_at(i)) {
      if (text[i] != '-') return std::nullopt;
      continue;
    }
    const int nibble = nibble_of(text[i]);
    if (nibble < 0) return std::nullopt;
    uint8_t& byte = uuid.bytes[digit_count / 2];
    byte = static_cast<uint8_t>((byte << 4) | nibble);
    ++digit_count;
  }
  return uuid;
}

}  // namespace tidemark
