#include "nbd/protocol_string.h"

#include <cstddef>
#include <cstdint>

namespace tidemark::nbd {

namespace {

// Bytes of the code point that begins with `first`, and what its first
// continuation may be (Unicode, table 3-7: no overlong forms, no surrogates,
// nothing beyond U+10FFFF). 0: no code point begins so.
struct Sequence {
  size_t length_bytes;
  uint8_t second_from;
  uint8_t second_to;
};

Sequence sequence_of(uint8_t first) noexcept {
  if (first >= 0x01 && first <= 0x7f) return {1, 0, 0};
  if (first >= 0xc2 && first <= 0xdf) return {2, 0x80, 0xbf};
  if (first == 0xe0) return {3, 0xa0, 0xbf};
  if (first == 0xed) return {3, 0x80, 0x9f};
  if (first >= 0xe1 && first <= 0xef) return {3, 0x80, 0xbf};
  if (first == 0xf0) return {4, 0x90, 0xbf};
  if (first >= 0xf1 && first <= 0xf3) return {4, 0x80, 0xbf};
  if (first == 0xf4) return {4, 0x80, 0x8f};
  return {0, 0, 0};
}

}  // namespace

bool is_protocol_string(std::string_view text) noexcept {
  const auto byte = [text](size_t at) { return static_cast<uint8_t>(text[at]); };
  for (size_t at = 0; at < text.size();) {
    const Sequence sequence = sequence_of(byte(at));
    if (sequence.length_bytes == 0 || sequence.length_bytes > text.size() - at) return false;
    for (size_t i = 1; i < sequence.length_bytes; ++i) {
      const uint8_t from = i == 1 ? sequence.second_from : 0x80;
      const uint8_t to = i == 1 ? sequence.second_to : 0xbf;
      if (byte(at + i) < from || byte(at + i) > to) return false;
    }
    at += sequence.length_bytes;
  }
  return true;
}

}  // namespace tidemark::nbd
