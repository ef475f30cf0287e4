// ByteReader: takes fields off the front of a client's bytes. Past the end it
// fails, once and for all: check is_ok() after the last take.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "common/byte_order.h"

namespace tidemark::nbd {

class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) : rest_(bytes) {}

  template <std::unsigned_integral T>
  T take() noexcept {
    const std::span<const std::byte> field = take_bytes(sizeof(T));
    return is_ok_ ? load_be<T>(field.data()) : T{0};
  }

  std::string_view take_string(size_t length_bytes) noexcept {
    const std::span<const std::byte> field = take_bytes(length_bytes);
    return {reinterpret_cast<const char*>(field.data()), field.size()};
  }

  bool is_ok() const noexcept { return is_ok_; }
  size_t rest_bytes() const noexcept { return rest_.size(); }

 private:
  std::span<const std::byte> take_bytes(size_t length_bytes) noexcept {
    if (!is_ok_ || length_bytes > rest_.size()) {
      is_ok_ = false;
      return {};
    }
    const std::span<const std::byte> field = rest_.first(length_bytes);
    rest_ = rest_.subspan(length_bytes);
    return field;
  }

  std::span<const std::byte> rest_;
  bool is_ok_ = true;
};

}  // namespace tidemark::nbd
