#include "attach/generic_netlink.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>

namespace tidemark::attach {

namespace {

constexpr size_t kReceiveBytes = 32 * 1024;

using Buffer = std::array<std::byte, kReceiveBytes>;

// The messages of one datagram, until `visit` says false.
template <typename Visit>
bool for_each_message(std::span<const std::byte> datagram, const Visit& visit) {
  while (datagram.size() >= NLMSG_HDRLEN) {
    nlmsghdr header{};
    std::memcpy(&header, datagram.data(), sizeof header);
    if (header.nlmsg_len < NLMSG_HDRLEN || header.nlmsg_len > datagram.size()) return true;
    if (!visit(header, datagram.first(header.nlmsg_len))) return false;
    datagram = datagram.subspan(std::min<size_t>(NLMSG_ALIGN(header.nlmsg_len), datagram.size()));
  }
  return true;
}

int verdict_of(std::span<const std::byte> message) {
  nlmsgerr error{};
  if (message.size() < NLMSG_HDRLEN + sizeof error) return EPROTO;
  std::memcpy(&error, message.data() + NLMSG_HDRLEN, sizeof error);
  return -error.error;
}

ssize_t receive_into(int fd, Buffer& buffer) {
  ssize_t received = 0;
  do {
    received = ::recv(fd, buffer.data(), buffer.size(), 0);
  } while (received < 0 && errno == EINTR);
  return received;
}

}  // namespace

Result<GenericNetlink> GenericNetlink::open(const std::string& family) {
  GenericNetlink self;
  self.fd_.reset(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC));
  if (!self.fd_.is_open()) return Status::from_errno("Cannot open a netlink socket", errno);
  const int error = self.find_family(family);
  if (error == ENOENT) {
    return Status(ErrorCode::kUnsupported,
                  "Cannot use the kernel's " + family +
                      ": because its module is not loaded. Load it with: modprobe " + family,
                  error);
  }
  if (error != 0) return Status::from_errno("Cannot use the kernel's " + family, error);
  return self;
}

int GenericNetlink::find_family(const std::string& name) {
  NetlinkMessage message(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, 1);
  message.add_string(CTRL_ATTR_FAMILY_NAME, name);
  return transact(message, [this](const NetlinkAttributes& attributes) {
    family_ = attributes.number<uint16_t>(CTRL_ATTR_FAMILY_ID).value_or(0);
    maximum_attribute_ = attributes.number<uint32_t>(CTRL_ATTR_MAXATTR).value_or(0);
    const auto groups = attributes.find(CTRL_ATTR_MCAST_GROUPS);
    if (!groups.has_value()) return;
    for (const auto& value : NetlinkAttributes(*groups).values()) {
      const NetlinkAttributes group(value);
      groups_.emplace_back(group.string(CTRL_ATTR_MCAST_GRP_NAME),
                           group.number<uint32_t>(CTRL_ATTR_MCAST_GRP_ID).value_or(0));
    }
  });
}

int GenericNetlink::transact(NetlinkMessage& message, const Answer& answer) {
  const uint32_t sequence = ++sequence_;
  const auto bytes = message.finish(sequence);
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  if (::sendto(fd_.get(), bytes.data(), bytes.size(), 0, reinterpret_cast<sockaddr*>(&kernel),
               sizeof kernel) < 0) {
    return errno;
  }
  Buffer buffer;
  int verdict = EPROTO;
  for (bool is_pending = true; is_pending;) {
    const ssize_t received = receive_into(fd_.get(), buffer);
    if (received < 0) return errno;
    const std::span<const std::byte> datagram(buffer.data(), static_cast<size_t>(received));
    is_pending = for_each_message(
        datagram, [&](const nlmsghdr& header, std::span<const std::byte> received_message) {
          if (header.nlmsg_seq != sequence) return true;  // an event, or of an earlier request
          if (header.nlmsg_type == NLMSG_ERROR) {
            verdict = verdict_of(received_message);
            return false;
          }
          if (answer) answer(attributes_of(received_message));
          return true;
        });
  }
  return verdict;
}

int GenericNetlink::subscribe(const std::string& group) {
  for (const auto& [name, id] : groups_) {
    if (name != group) continue;
    const int value = static_cast<int>(id);
    return ::setsockopt(fd_.get(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &value, sizeof value) == 0
               ? 0
               : errno;
  }
  return ENOENT;
}

int GenericNetlink::receive_event(const Answer& answer) {
  Buffer buffer;
  const ssize_t received = receive_into(fd_.get(), buffer);
  if (received < static_cast<ssize_t>(NLMSG_HDRLEN + GENL_HDRLEN)) return -1;
  genlmsghdr generic{};
  std::memcpy(&generic, buffer.data() + NLMSG_HDRLEN, sizeof generic);
  answer(attributes_of({buffer.data(), static_cast<size_t>(received)}));
  return generic.cmd;
}

}  // namespace tidemark::attach
