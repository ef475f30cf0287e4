#include "device/nbd_client_socket.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

namespace tidemark {

namespace {

// A peer that is gone without a word is noticed after about this long.
constexpr int kDeadPeerSeconds = 30;

Status closed() { return {ErrorCode::kClosed, "the device is being closed"}; }

// Until `events` or an error is there.
Status wait_for(int fd, short events, const NbdPatience& patience) {
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(
        patience.deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) return {ErrorCode::kTimedOut, "the server does not answer in time"};
    pollfd entries[] = {{fd, events, 0}, {patience.cancel_fd, POLLIN, 0}};
    const int timeout_ms = static_cast<int>(std::min<int64_t>(left.count(), 60'000));
    const int count = ::poll(entries, 2, timeout_ms);
    if (count < 0 && errno != EINTR) return Status::from_errno("cannot poll", errno);
    if (count > 0 && entries[1].revents != 0) return closed();
    if (count > 0 && entries[0].revents != 0) return Status::ok();
  }
}

Status connect_socket(int fd, const sockaddr* address, socklen_t length,
                      const NbdPatience& patience) {
  if (::connect(fd, address, length) == 0) return Status::ok();
  if (errno != EINPROGRESS && errno != EINTR) return Status::from_errno("cannot connect", errno);
  if (Status status = wait_for(fd, POLLOUT, patience); !status.is_ok()) return status;
  int error = 0;
  socklen_t error_length = sizeof error;
  ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &error_length);
  return error == 0 ? Status::ok() : Status::from_errno("cannot connect", error);
}

UniqueFd make_socket(int family) {
  return UniqueFd(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

Result<UniqueFd> connect_unix(const std::string& path, const NbdPatience& patience) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return Status(ErrorCode::kInvalidArgument, "a Unix socket's path has at most 107 bytes");
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  UniqueFd fd = make_socket(AF_UNIX);
  if (!fd.is_open()) return Status::from_errno("cannot make a socket", errno);
  Status status = connect_socket(fd.get(), reinterpret_cast<const sockaddr*>(&address),
                                 sizeof address, patience);
  if (!status.is_ok()) return status;
  return fd;
}

void set_option(int fd, int level, int name, int value) noexcept {
  ::setsockopt(fd, level, name, &value, sizeof value);
}

void tune_tcp(int fd) noexcept {
  set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, kDeadPeerSeconds / 3);
  set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, kDeadPeerSeconds / 6);
  set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, 4);
  set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, kDeadPeerSeconds * 1000);
}

using AddressList = std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)>;

Result<AddressList> resolve(const std::string& host, uint16_t port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_ADDRCONFIG | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int error = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (error != 0) {
    const bool is_unknown = error == EAI_NONAME;
    return Status(is_unknown ? ErrorCode::kNotFound : ErrorCode::kIo,
                  "cannot resolve the host: " + std::string(::gai_strerror(error)));
  }
  return AddressList(found, &::freeaddrinfo);
}

Result<UniqueFd> connect_tcp(const std::string& host, uint16_t port, const NbdPatience& patience) {
  auto addresses = resolve(host, port);
  if (!addresses.is_ok()) return addresses.status();
  Status last(ErrorCode::kNotFound, "the host has no address");
  for (const addrinfo* each = addresses.value().get(); each != nullptr; each = each->ai_next) {
    UniqueFd fd = make_socket(each->ai_family);
    if (!fd.is_open()) continue;
    last = connect_socket(fd.get(), each->ai_addr, each->ai_addrlen, patience);
    if (last.is_ok()) {
      tune_tcp(fd.get());
      return fd;
    }
  }
  return last;
}

}  // namespace

Result<NbdClientSocket> NbdClientSocket::connect(const NbdDeviceParameters& parameters,
                                                 const NbdPatience& patience) {
  auto fd = parameters.unix_path.empty() ? connect_tcp(parameters.host, parameters.port, patience)
                                         : connect_unix(parameters.unix_path, patience);
  if (!fd.is_ok()) return fd.status();
  return NbdClientSocket(std::move(fd.value()), patience);
}

Status NbdClientSocket::send(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent >= 0) {
      bytes = bytes.subspan(static_cast<size_t>(sent));
    } else if (errno == EAGAIN) {
      if (Status status = wait_for(fd_.get(), POLLOUT, patience_); !status.is_ok()) return status;
    } else if (errno != EINTR) {
      return Status::from_errno("cannot send", errno);
    }
  }
  return Status::ok();
}

Status NbdClientSocket::receive(std::span<std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t received = ::recv(fd_.get(), bytes.data(), bytes.size(), 0);
    if (received > 0) {
      bytes = bytes.subspan(static_cast<size_t>(received));
    } else if (received == 0) {
      return {ErrorCode::kIo, "the server closed the connection"};
    } else if (errno == EAGAIN) {
      if (Status status = wait_for(fd_.get(), POLLIN, patience_); !status.is_ok()) return status;
    } else if (errno != EINTR) {
      return Status::from_errno("cannot receive", errno);
    }
  }
  return Status::ok();
}

}  // namespace tidemark
