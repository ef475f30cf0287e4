#include "attach/nbd_client_sockets.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

#include "common/nbd_wire.h"

namespace tidemark::attach {

namespace {

constexpr time_t kHandshakeLimitSeconds = 10;

// One connection's handshake. Every step answers 0 or an errno.
class Handshake {
 public:
  Handshake(int fd, NbdClientSockets& agreed) : fd_(fd), agreed_(agreed) {}

  int greet();
  int choose(const std::string& export_name);

 private:
  int send(const void* bytes, size_t size_bytes);
  int receive(void* bytes, size_t size_bytes);
  int take_reply(const nbd::OptionReplyHeader& header);
  void take_info(const std::vector<std::byte>& payload);

  const int fd_;
  NbdClientSockets& agreed_;
};

int Handshake::send(const void* bytes, size_t size_bytes) {
  const auto* from = static_cast<const std::byte*>(bytes);
  while (size_bytes > 0) {
    const ssize_t sent = ::send(fd_, from, size_bytes, MSG_NOSIGNAL);
    if (sent < 0 && errno != EINTR) return errno;
    if (sent <= 0) continue;
    from += sent;
    size_bytes -= static_cast<size_t>(sent);
  }
  return 0;
}

int Handshake::receive(void* bytes, size_t size_bytes) {
  auto* into = static_cast<std::byte*>(bytes);
  while (size_bytes > 0) {
    const ssize_t received = ::recv(fd_, into, size_bytes, 0);
    if (received == 0) return ECONNRESET;
    if (received < 0 && errno == EINTR) continue;
    if (received < 0) return errno == EAGAIN ? ETIMEDOUT : errno;
    into += received;
    size_bytes -= static_cast<size_t>(received);
  }
  return 0;
}

int Handshake::greet() {
  nbd::Greeting greeting;
  if (const int error = receive(&greeting, sizeof greeting); error != 0) return error;
  if (greeting.server_magic != nbd::kServerMagic || greeting.option_magic != nbd::kOptionMagic) {
    return EPROTO;
  }
  const nbd::be32 flags(nbd::kClientFixedNewstyle | nbd::kClientNoZeroes);
  return send(&flags, sizeof flags);
}

// GO, and the question for block sizes: a server may insist on it.
int Handshake::choose(const std::string& export_name) {
  struct {
    nbd::OptionHeader header;
    nbd::be32 name_bytes;
  } front;
  struct {
    nbd::be16 count = 1;
    nbd::be16 info = static_cast<uint16_t>(nbd::Info::kBlockSize);
  } back;
  const auto name_bytes = static_cast<uint32_t>(export_name.size());
  front.header.magic = nbd::kOptionMagic;
  front.header.option = static_cast<uint32_t>(nbd::Option::kGo);
  front.header.length_bytes =
      static_cast<uint32_t>(sizeof front.name_bytes + name_bytes + sizeof back);
  front.name_bytes = name_bytes;
  int error = send(&front, sizeof front);
  if (error == 0) error = send(export_name.data(), export_name.size());
  if (error == 0) error = send(&back, sizeof back);
  nbd::OptionReplyHeader header;
  do {
    if (error == 0) error = receive(&header, sizeof header);
    if (error == 0) error = take_reply(header);
    if (error != 0) return error;
  } while (header.type != static_cast<uint32_t>(nbd::OptionReply::kAck));
  return 0;
}

int Handshake::take_reply(const nbd::OptionReplyHeader& header) {
  if (header.magic != nbd::kOptionReplyMagic || header.length_bytes > nbd::kMaximumOptionBytes) {
    return EPROTO;
  }
  std::vector<std::byte> payload(header.length_bytes);
  if (const int error = receive(payload.data(), payload.size()); error != 0) return error;
  switch (static_cast<nbd::OptionReply>(uint32_t{header.type})) {
    case nbd::OptionReply::kAck:
      return 0;
    case nbd::OptionReply::kInfo:
      take_info(payload);
      return 0;
    case nbd::OptionReply::kErrorUnknown:
      return ENOENT;
    default:
      return EPROTO;
  }
}

void Handshake::take_info(const std::vector<std::byte>& payload) {
  if (payload.size() < sizeof(nbd::be16)) return;
  const auto type = static_cast<nbd::Info>(uint16_t{nbd::load_struct<nbd::be16>(payload.data())});
  if (type == nbd::Info::kExport && payload.size() >= sizeof(nbd::InfoExport)) {
    const auto info = nbd::load_struct<nbd::InfoExport>(payload.data());
    agreed_.size_bytes = info.size_bytes;
    agreed_.transmission_flags = info.transmission_flags;
  } else if (type == nbd::Info::kBlockSize && payload.size() >= sizeof(nbd::InfoBlockSize)) {
    const auto info = nbd::load_struct<nbd::InfoBlockSize>(payload.data());
    agreed_.minimum_block_bytes = info.minimum_bytes;
  }
}

// The kernel's client has time limits of its own: none may be left on the socket.
int limit_receive(int fd, time_t seconds) {
  const timeval limit{seconds, 0};
  return ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0 ? 0 : errno;
}

int connect_one(const sockaddr_un& address, const std::string& export_name,
                NbdClientSockets& into) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.is_open()) return errno;
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return errno;
  }
  int error = limit_receive(fd.get(), kHandshakeLimitSeconds);
  Handshake handshake(fd.get(), into);
  if (error == 0) error = handshake.greet();
  if (error == 0) error = handshake.choose(export_name);
  if (error == 0) error = limit_receive(fd.get(), 0);
  if (error == 0) into.fds.push_back(std::move(fd));
  return error;
}

}  // namespace

Result<NbdClientSockets> connect_nbd_client(const std::string& unix_path,
                                            const std::string& export_name,
                                            uint32_t connection_count) {
  const std::string what = "Cannot connect to the NBD server at " + unix_path;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (unix_path.size() >= sizeof address.sun_path) {
    return Status::from_errno(what, ENAMETOOLONG);
  }
  std::memcpy(address.sun_path, unix_path.c_str(), unix_path.size() + 1);
  NbdClientSockets sockets;
  for (uint32_t i = 0; i < connection_count; ++i) {
    const int error = connect_one(address, export_name, sockets);
    if (error != 0) return Status::from_errno(what, error);
  }
  return sockets;
}

}  // namespace tidemark::attach
