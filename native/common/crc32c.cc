#include "common/crc32c.h"

#include <array>
#include <cstring>

namespace tidemark {

namespace {

constexpr uint32_t kPolynomialReflected = 0x82f63b78;

constexpr std::array<uint32_t, 256> make_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) ? kPolynomialReflected : 0);
    table[i] = crc;
  }
  return table;
}

constexpr auto kTable = make_table();

uint32_t crc32c_portable(const uint8_t* data, size_t length_bytes, uint32_t crc) noexcept {
  for (size_t i = 0; i < length_bytes; ++i) crc = (crc >> 8) ^ kTable[(crc ^ data[i]) & 0xff];
  return crc;
}

#if defined(__x86_64__)

// crc32 has a latency of three cycles and a throughput of one: three lanes
// keep it busy. Each lane is then shifted over the bytes that follow it by a
// table of its length's zero operator.
constexpr size_t kLaneBytes = 1024;

constexpr uint32_t over_zeroes(uint32_t crc, size_t length_bytes) {
  for (size_t i = 0; i < length_bytes; ++i) crc = (crc >> 8) ^ kTable[crc & 0xff];
  return crc;
}

struct ShiftTable {
  uint32_t of[4][256];
};

ShiftTable make_shift_table() {
  uint32_t basis[32];
  for (int bit = 0; bit < 32; ++bit) basis[bit] = over_zeroes(1U << bit, kLaneBytes);
  ShiftTable table{};
  for (uint32_t byte = 0; byte < 4; ++byte) {
    for (uint32_t value = 0; value < 256; ++value) {
      uint32_t crc = 0;
      for (uint32_t bit = 0; bit < 8; ++bit) {
        if (value & (1U << bit)) crc ^= basis[byte * 8 + bit];
      }
      table.of[byte][value] = crc;
    }
  }
  return table;
}

uint32_t shifted(const ShiftTable& table, uint32_t crc) noexcept {
  return table.of[0][crc & 0xff] ^ table.of[1][(crc >> 8) & 0xff] ^
         table.of[2][(crc >> 16) & 0xff] ^ table.of[3][crc >> 24];
}

uint64_t load64(const uint8_t* from) noexcept {
  uint64_t value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

__attribute__((target("sse4.2"))) uint32_t crc32c_sse42(const uint8_t* data, size_t length_bytes,
                                                        uint32_t seed) noexcept {
  static const ShiftTable table = make_shift_table();
  uint64_t crc = seed;
  while (length_bytes >= 3 * kLaneBytes) {
    uint64_t second = 0;
    uint64_t third = 0;
    for (size_t i = 0; i < kLaneBytes; i += 8) {
      crc = __builtin_ia32_crc32di(crc, load64(data + i));
      second = __builtin_ia32_crc32di(second, load64(data + kLaneBytes + i));
      third = __builtin_ia32_crc32di(third, load64(data + 2 * kLaneBytes + i));
    }
    crc = shifted(table, static_cast<uint32_t>(crc)) ^ second;
    crc = shifted(table, static_cast<uint32_t>(crc)) ^ third;
    data += 3 * kLaneBytes;
    length_bytes -= 3 * kLaneBytes;
  }
  for (; length_bytes >= 8; data += 8, length_bytes -= 8) {
    crc = __builtin_ia32_crc32di(crc, load64(data));
  }
  auto tail = static_cast<uint32_t>(crc);
  for (; length_bytes > 0; ++data, --length_bytes) tail = __builtin_ia32_crc32qi(tail, *data);
  return tail;
}

bool has_sse42() noexcept { return __builtin_cpu_supports("sse4.2") != 0; }

#endif

}  // namespace

uint32_t crc32c(const void* data, size_t length_bytes, uint32_t seed) noexcept {
  const auto* bytes = static_cast<const uint8_t*>(data);
#if defined(__x86_64__)
  static const bool fast = has_sse42();
  if (fast) return ~crc32c_sse42(bytes, length_bytes, ~seed);
#endif
  return ~crc32c_portable(bytes, length_bytes, ~seed);
}

}  // namespace tidemark
