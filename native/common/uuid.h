#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tidemark {

// 16 bytes in the order in which they are written as text (RFC 9562).
struct Uuid {
  std::array<uint8_t, 16> bytes{};

  auto operator<=>(const Uuid&) const = default;
  bool is_nil() const noexcept;
  std::string to_string() const;  // lower case, with hyphens

  static Uuid random();
  static std::optional<Uuid> parse(std::string_view text);
};

}  // namespace tidemark
