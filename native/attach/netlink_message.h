// NetlinkMessage: one generic netlink request, built attribute by attribute; and
// the attributes of an answer.
//
// Representation: the kernel's layout as it is, headers in front, each attribute
// a length, a type and a value padded to 4 bytes. A nested attribute's length is
// set when it ends.
#pragma once

#include <linux/genetlink.h>
#include <linux/netlink.h>

#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tidemark::attach {

class NetlinkMessage {
 public:
  NetlinkMessage(uint16_t family, uint8_t command, uint8_t version);

  template <typename Number>
  void add(uint16_t type, Number value) {
    add_bytes(type, &value, sizeof value);
  }
  void add_string(uint16_t type, const std::string& text) {
    add_bytes(type, text.c_str(), text.size() + 1);
  }

  // What is added between the two belongs to the nested attribute.
  size_t begin_nested(uint16_t type);
  void end_nested(size_t begun_at);

  // Complete; valid until the message changes.
  std::span<const std::byte> finish(uint32_t sequence);

 private:
  void add_bytes(uint16_t type, const void* value, size_t size_bytes);

  std::vector<std::byte> bytes_;
};

// One attribute of an answer, or what is inside of one.
class NetlinkAttributes {
 public:
  explicit NetlinkAttributes(std::span<const std::byte> bytes) : bytes_(bytes) {}

  // The first of that type.
  std::optional<std::span<const std::byte>> find(uint16_t type) const;
  std::vector<std::span<const std::byte>> values() const;

  template <typename Number>
  std::optional<Number> number(uint16_t type) const {
    const auto value = find(type);
    if (!value.has_value() || value->size() < sizeof(Number)) return std::nullopt;
    Number number{};
    std::memcpy(&number, value->data(), sizeof number);
    return number;
  }
  std::string_view string(uint16_t type) const;  // "" when it is not there

 private:
  std::span<const std::byte> bytes_;
};

// The attributes behind both headers of a message; empty when it is too short.
NetlinkAttributes attributes_of(std::span<const std::byte> message);

}  // namespace tidemark::attach
