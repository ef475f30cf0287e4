// Loads and stores with a stated byte order: big endian on the NBD wire,
// little endian in Tidemark's own files and streams.
#pragma once

#include <bit>
#include <concepts>
#include <cstdint>
#include <cstring>

namespace tidemark {

template <std::unsigned_integral T>
constexpr T byte_swapped(T value) noexcept {
  if constexpr (sizeof(T) == 1) return value;
  if constexpr (sizeof(T) == 2) return __builtin_bswap16(value);
  if constexpr (sizeof(T) == 4) return __builtin_bswap32(value);
  if constexpr (sizeof(T) == 8) return __builtin_bswap64(value);
}

template <std::unsigned_integral T>
T load_be(const void* from) noexcept {
  T value;
  std::memcpy(&value, from, sizeof value);
  return std::endian::native == std::endian::big ? value : byte_swapped(value);
}

template <std::unsigned_integral T>
void store_be(void* to, T value) noexcept {
  if constexpr (std::endian::native == std::endian::little) value = byte_swapped(value);
  std::memcpy(to, &value, sizeof value);
}

template <std::unsigned_integral T>
T load_le(const void* from) noexcept {
  T value;
  std::memcpy(&value, from, sizeof value);
  return std::endian::native == std::endian::little ? value : byte_swapped(value);
}

template <std::unsigned_integral T>
void store_le(void* to, T value) noexcept {
  if constexpr (std::endian::native == std::endian::big) value = byte_swapped(value);
  std::memcpy(to, &value, sizeof value);
}

}  // namespace tidemark
