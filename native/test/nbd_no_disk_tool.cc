// nbd_no_disk_tool: what an NBD server can reach at most with a given client:
//   nbd_no_disk_tool SOCKET_PATH | TCP_PORT
// It has no disk. A read is answered with whatever a buffer holds, a write is
// dropped. A thread a connection; one receive takes all requests that are there,
// one send takes all their replies. No server that has to fetch or keep data can
// be faster; where this one is not, the client is the limit. For benchmarks.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "common/fd.h"
#include "common/nbd_wire.h"

using namespace tidemark;

namespace {

constexpr uint64_t kSizeBytes = 1ULL << 40;
constexpr size_t kInputBytes = 4 << 20;
constexpr size_t kOutputBytes = 64 << 20;
constexpr uint16_t kFlags = nbd::kFlagHasFlags | nbd::kFlagSendFlush | nbd::kFlagCanMultiConn;

class Client {
 public:
  explicit Client(UniqueFd fd) : fd_(std::move(fd)) {}

  void serve() {
    if (!shake_hands()) return;
    while (take_requests()) {
    }
  }

 private:
  bool send_all(const void* data, size_t byte_count) {
    const auto* bytes = static_cast<const char*>(data);
    for (size_t at = 0; at < byte_count;) {
      const ssize_t sent = ::send(fd_.get(), bytes + at, byte_count - at, MSG_NOSIGNAL);
      if (sent <= 0) return false;
      at += static_cast<size_t>(sent);
    }
    return true;
  }

  bool receive_all(void* data, size_t byte_count) {
    return byte_count == 0 ||
           ::recv(fd_.get(), data, byte_count, MSG_WAITALL) == static_cast<ssize_t>(byte_count);
  }

  bool shake_hands() {
    const nbd::Greeting greeting{nbd::kServerMagic, nbd::kOptionMagic,
                                 nbd::kServerFixedNewstyle | nbd::kServerNoZeroes};
    uint32_t client_flags = 0;
    if (!send_all(&greeting, sizeof greeting)) return false;
    if (!receive_all(&client_flags, sizeof client_flags)) return false;
    for (;;) {
      nbd::OptionHeader header{};
      if (!receive_all(&header, sizeof header) || header.length_bytes > 65536) return false;
      std::vector<char> data(header.length_bytes);
      if (!receive_all(data.data(), data.size())) return false;
      const auto option = static_cast<nbd::Option>(static_cast<uint32_t>(header.option));
      if (!answer(option)) return false;
      if (option == nbd::Option::kGo) return true;
    }
  }

  bool answer(nbd::Option option) {
    const bool describes = option == nbd::Option::kGo || option == nbd::Option::kInfo;
    if (option == nbd::Option::kStructuredReply) is_structured_ = true;
    if (!describes && option != nbd::Option::kStructuredReply) {
      return reply(option, nbd::OptionReply::kErrorUnsupported, {});
    }
    const nbd::InfoExport info{static_cast<uint16_t>(nbd::Info::kExport), kSizeBytes, kFlags};
    if (describes && !reply(option, nbd::OptionReply::kInfo, std::as_bytes(std::span(&info, 1)))) {
      return false;
    }
    return reply(option, nbd::OptionReply::kAck, {});
  }

  bool reply(nbd::Option option, nbd::OptionReply type, std::span<const std::byte> data) {
    const nbd::OptionReplyHeader header{nbd::kOptionReplyMagic, static_cast<uint32_t>(option),
                                        static_cast<uint32_t>(type),
                                        static_cast<uint32_t>(data.size())};
    return send_all(&header, sizeof header) && send_all(data.data(), data.size());
  }

  bool take_requests() {
    const ssize_t count = ::recv(fd_.get(), input_.get() + held_, kInputBytes - held_, 0);
    if (count <= 0) return false;
    held_ += static_cast<size_t>(count);
    size_t at = 0;
    replies_bytes_ = 0;
    while (held_ - at >= sizeof(nbd::RequestHeader)) {
      const auto header = nbd::load_struct<nbd::RequestHeader>(input_.get() + at);
      const auto command = static_cast<nbd::Command>(static_cast<uint16_t>(header.command));
      if (command == nbd::Command::kDisconnect) return false;
      const uint32_t length_bytes = header.length_bytes;
      const size_t payload_bytes = command == nbd::Command::kWrite ? length_bytes : 0;
      if (held_ - at < sizeof header + payload_bytes) break;
      at += sizeof header + payload_bytes;
      if (!append_reply(header, command)) return false;
    }
    held_ -= at;
    std::memmove(input_.get(), input_.get() + at, held_);
    return send_all(output_.get(), replies_bytes_);
  }

  bool append_reply(const nbd::RequestHeader& header, nbd::Command command) {
    const bool is_read = command == nbd::Command::kRead;
    const uint32_t length_bytes = header.length_bytes;
    const size_t data_bytes = is_read ? length_bytes : 0;
    if (replies_bytes_ + sizeof(nbd::OffsetDataChunk) + data_bytes > kOutputBytes) return false;
    std::byte* to = output_.get() + replies_bytes_;
    if (is_read && is_structured_) {
      const nbd::OffsetDataChunk chunk{
          {nbd::kStructuredReplyMagic, nbd::kChunkDone,
           static_cast<uint16_t>(nbd::ChunkType::kOffsetData), header.cookie,
           static_cast<uint32_t>(length_bytes + sizeof(uint64_t))},
          header.offset_bytes};
      std::memcpy(to, &chunk, sizeof chunk);
      replies_bytes_ += sizeof chunk + data_bytes;
    } else {
      const nbd::SimpleReply simple{nbd::kSimpleReplyMagic, 0U, header.cookie};
      std::memcpy(to, &simple, sizeof simple);
      replies_bytes_ += sizeof simple + data_bytes;
    }
    return true;
  }

  UniqueFd fd_;
  bool is_structured_ = false;
  std::unique_ptr<std::byte[]> input_{new std::byte[kInputBytes]};
  std::unique_ptr<std::byte[]> output_{
      new std::byte[kOutputBytes]};  // untouched pages cost nothing
  size_t held_ = 0;
  size_t replies_bytes_ = 0;
};

UniqueFd listen_on(const std::string& place) {
  const int port = std::atoi(place.c_str());
  UniqueFd fd(::socket(port > 0 ? AF_INET : AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  int outcome = 0;
  if (port > 0) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    outcome = ::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address);
  } else {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    place.copy(address.sun_path, sizeof address.sun_path - 1);
    outcome = ::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address);
  }
  if (outcome != 0 || ::listen(fd.get(), 16) != 0) fd.reset();
  return fd;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2 || argv[1][0] == '-') {
    std::fputs("usage: nbd_no_disk_tool SOCKET_PATH | TCP_PORT\n", stderr);
    return 2;
  }
  const UniqueFd listener = listen_on(argv[1]);
  if (!listener.is_open()) {
    std::perror("nbd_no_disk_tool: cannot listen");
    return 1;
  }
  for (;;) {
    UniqueFd fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!fd.is_open()) continue;
    const int on = 1;
    ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    std::thread([fd = std::move(fd)]() mutable { Client(std::move(fd)).serve(); }).detach();
  }
}
