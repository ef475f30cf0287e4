#include "common/sha1.h"

#include <bit>
#include <string>

#include "common/byte_order.h"

namespace tidemark {

namespace {

constexpr size_t kBlockBytes = 64;
using State = std::array<uint32_t, 5>;

// The message, one set bit, zeroes, and its length in bits: whole blocks.
std::string padded(std::string_view message) {
  std::string bytes(message);
  bytes.push_back('\x80');
  while (bytes.size() % kBlockBytes != kBlockBytes - sizeof(uint64_t)) bytes.push_back('\0');
  unsigned char length[sizeof(uint64_t)];
  store_be(length, uint64_t{message.size()} * 8);
  return bytes.append(reinterpret_cast<const char*>(length), sizeof length);
}

std::array<uint32_t, 80> schedule(const char* block) {
  std::array<uint32_t, 80> words;
  for (size_t i = 0; i < 16; ++i) {
    words[i] = load_be<uint32_t>(reinterpret_cast<const std::byte*>(block + 4 * i));
  }
  for (size_t i = 16; i < words.size(); ++i) {
    words[i] = std::rotl(words[i - 3] ^ words[i - 8] ^ words[i - 14] ^ words[i - 16], 1);
  }
  return words;
}

void add_block(State& state, const char* block) {
  const auto words = schedule(block);
  auto [a, b, c, d, e] = state;
  for (size_t i = 0; i < words.size(); ++i) {
    uint32_t mixed = b ^ c ^ d;
    uint32_t constant = i < 40 ? 0x6ed9eba1 : 0xca62c1d6;
    if (i < 20) {
      mixed = (b & c) | (~b & d);
      constant = 0x5a827999;
    } else if (i >= 40 && i < 60) {
      mixed = (b & c) | (b & d) | (c & d);
      constant = 0x8f1bbcdc;
    }
    const uint32_t next = std::rotl(a, 5) + mixed + e + constant + words[i];
    e = d;
    d = c;
    c = std::rotl(b, 30);
    b = a;
    a = next;
  }
  const State added = {a, b, c, d, e};
  for (size_t i = 0; i < state.size(); ++i) state[i] += added[i];
}

}  // namespace

std::array<uint8_t, 20> sha1(std::string_view message) {
  State state = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
  const std::string bytes = padded(message);
  for (size_t at = 0; at < bytes.size(); at += kBlockBytes) add_block(state, bytes.data() + at);
  std::array<uint8_t, 20> digest;
  for (size_t i = 0; i < state.size(); ++i) store_be(digest.data() + 4 * i, state[i]);
  return digest;
}

}  // namespace tidemark
