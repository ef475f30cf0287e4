// Client bytes for samples, written from the specification.
#pragma once

#include <cstdint>
#include <random>
#include <string>

namespace tidemark::fuzz {

inline std::string be(uint64_t value, int byte_count) {
  std::string bytes;
  for (int i = byte_count - 1; i >= 0; --i) bytes += static_cast<char>(value >> (8 * i));
  return bytes;
}

inline uint64_t be_at(const std::string& bytes, size_t at, size_t byte_count) {
  uint64_t value = 0;
  for (size_t i = 0; i < byte_count; ++i) {
    value = value << 8 | static_cast<unsigned char>(bytes.at(at + i));
  }
  return value;
}

inline std::string option(uint32_t number, const std::string& payload = {}) {
  return "IHAVEOPT" + be(number, 4) + be(payload.size(), 4) + payload;
}

inline std::string named(const std::string& name) { return be(name.size(), 4) + name; }

inline std::string random_name(std::mt19937_64& random) {
  switch (random() % 6) {
    case 0:
      return "disk";
    case 1:
      return "\xc3\xa9";
    case 2:
      return std::string(random() % 5000, 'n');
    case 3:
      return std::string(random() % 8, static_cast<char>(random()));
    default:
      return {};
  }
}

inline std::string random_option(std::mt19937_64& random) {
  const uint32_t number = random() % 12 == 0 ? static_cast<uint32_t>(random()) : random() % 12;
  const std::string name = random_name(random);
  std::string payload;
  if (number == 1) payload = name;
  if (number == 6 || number == 7) {
    payload = named(name);
    const uint64_t count = random() % 5;
    payload += be(count, 2);
    for (uint64_t i = 0; i < count; ++i) payload += be(i, 2);
  }
  if (number == 9 || number == 10) {
    payload = named(name) + be(3, 4) + named("base:allocation") + named("qemu:dirty-bitmap:") +
              named("qemu:dirty-bitmap:a");
  }
  return option(number, payload);
}

// Mostly valid; about one in eight is far out.
inline std::string random_request(std::mt19937_64& random, bool extended) {
  const auto command = static_cast<uint16_t>(random() % 16 == 0 ? random() : random() % 8);
  uint16_t flags = random() % 4 == 0 ? static_cast<uint16_t>(random() % 64) : 0;
  const uint64_t offset = random() % 16 == 0 ? random() : random() % (1 << 20) / 512 * 512;
  uint64_t length = random() % 4 == 0 ? random() % 200000 : random() % 16 * 512;
  std::string payload;
  if (command == 1) {
    length %= 100000;
    payload.assign(length, static_cast<char>(random()));
    if (extended) flags |= 32;
  } else if (command == 7 && extended && random() % 2 == 0) {
    payload = be(length + 1, 8);
    for (uint64_t count = random() % 4; count > 0; --count) payload += be(random() % 5, 4);
    flags |= 32;
    length = payload.size();
  } else if (extended && (flags & 32) != 0) {
    length %= 1000;
    payload.assign(length, 'p');
  }
  if (random() % 24 == 0) length = random();
  return be(extended ? 0x21e41c71 : 0x25609513, 4) + be(flags, 2) + be(command, 2) +
         be(random(), 8) + be(offset, 8) + be(length, extended ? 8 : 4) + payload;
}

}  // namespace tidemark::fuzz
