#include "attach/netlink_message.h"

#include <functional>

namespace tidemark::attach {

namespace {

constexpr size_t kHeadersBytes = NLMSG_HDRLEN + GENL_HDRLEN;

using Visit = std::function<bool(uint16_t type, std::span<const std::byte> value)>;

// Until `visit` says false, or the bytes make no attribute any more.
void for_each_attribute(std::span<const std::byte> bytes, const Visit& visit) {
  while (bytes.size() >= NLA_HDRLEN) {
    nlattr header{};
    std::memcpy(&header, bytes.data(), sizeof header);
    if (header.nla_len < NLA_HDRLEN || header.nla_len > bytes.size()) return;
    const auto type = static_cast<uint16_t>(header.nla_type & NLA_TYPE_MASK);
    if (!visit(type, bytes.subspan(NLA_HDRLEN, header.nla_len - NLA_HDRLEN))) return;
    bytes = bytes.subspan(std::min<size_t>(NLA_ALIGN(header.nla_len), bytes.size()));
  }
}

}  // namespace

NetlinkMessage::NetlinkMessage(uint16_t family, uint8_t command, uint8_t version)
    : bytes_(kHeadersBytes) {
  nlmsghdr header{};
  header.nlmsg_type = family;
  header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
  std::memcpy(bytes_.data(), &header, sizeof header);
  genlmsghdr generic{};
  generic.cmd = command;
  generic.version = version;
  std::memcpy(bytes_.data() + NLMSG_HDRLEN, &generic, sizeof generic);
}

void NetlinkMessage::add_bytes(uint16_t type, const void* value, size_t size_bytes) {
  const size_t at = bytes_.size();
  nlattr header{};
  header.nla_len = static_cast<uint16_t>(NLA_HDRLEN + size_bytes);
  header.nla_type = type;
  bytes_.resize(at + NLA_ALIGN(header.nla_len));
  std::memcpy(bytes_.data() + at, &header, sizeof header);
  if (size_bytes > 0) std::memcpy(bytes_.data() + at + NLA_HDRLEN, value, size_bytes);
}

size_t NetlinkMessage::begin_nested(uint16_t type) {
  const size_t at = bytes_.size();
  add_bytes(static_cast<uint16_t>(type | NLA_F_NESTED), nullptr, 0);
  return at;
}

void NetlinkMessage::end_nested(size_t begun_at) {
  const auto length = static_cast<uint16_t>(bytes_.size() - begun_at);
  std::memcpy(bytes_.data() + begun_at + offsetof(nlattr, nla_len), &length, sizeof length);
}

std::span<const std::byte> NetlinkMessage::finish(uint32_t sequence) {
  nlmsghdr header{};
  std::memcpy(&header, bytes_.data(), sizeof header);
  header.nlmsg_len = static_cast<uint32_t>(bytes_.size());
  header.nlmsg_seq = sequence;
  std::memcpy(bytes_.data(), &header, sizeof header);
  return bytes_;
}

std::optional<std::span<const std::byte>> NetlinkAttributes::find(uint16_t type) const {
  std::optional<std::span<const std::byte>> found;
  for_each_attribute(bytes_, [&](uint16_t candidate, std::span<const std::byte> value) {
    if (candidate == type) found = value;
    return !found.has_value();
  });
  return found;
}

std::vector<std::span<const std::byte>> NetlinkAttributes::values() const {
  std::vector<std::span<const std::byte>> values;
  for_each_attribute(bytes_, [&](uint16_t, std::span<const std::byte> value) {
    values.push_back(value);
    return true;
  });
  return values;
}

std::string_view NetlinkAttributes::string(uint16_t type) const {
  const auto value = find(type);
  if (!value.has_value()) return {};
  const std::string_view text(reinterpret_cast<const char*>(value->data()), value->size());
  return text.substr(0, text.find('\0'));
}

NetlinkAttributes attributes_of(std::span<const std::byte> message) {
  return NetlinkAttributes(message.size() < kHeadersBytes ? std::span<const std::byte>()
                                                          : message.subspan(kHeadersBytes));
}

}  // namespace tidemark::attach
