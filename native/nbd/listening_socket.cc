#include "nbd/listening_socket.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <memory>
#include <thread>

#include "common/parent_directory.h"
#include "nbd/socket_options.h"

namespace tidemark::nbd {

namespace {

constexpr int kLockAttempts = 100;
constexpr std::chrono::milliseconds kLockPause{10};

std::string cannot_listen(const std::string& address) { return "Cannot listen on " + address; }

// Two servers that start at once must not both take a stale socket away: they
// take turns on the directory. Where it stays locked they go without.
UniqueFd lock_directory_of(const std::string& path) {
  UniqueFd fd(::open(parent_directory_of(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  for (int i = 0; i < kLockAttempts && ::flock(fd.get(), LOCK_EX | LOCK_NB) != 0; ++i) {
    if (errno != EWOULDBLOCK) break;
    std::this_thread::sleep_for(kLockPause);
  }
  return fd;
}

Result<sockaddr_un> unix_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return Status(ErrorCode::kInvalidArgument,
                  cannot_listen(path) +
                      ": because the path of a Unix socket has at most 107 "
                      "bytes. Use a shorter one.");
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

const sockaddr* as_sockaddr(const sockaddr_un& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

// Removes the socket that a dead server left behind.
Status remove_stale(const std::string& path, const sockaddr_un& address) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) return Status::ok();
  if (!S_ISSOCK(status.st_mode)) {
    return Status(ErrorCode::kInUse, cannot_listen(path) +
                                         ": because a file that is no socket has this name. "
                                         "Choose another path.");
  }
  const UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!probe.is_open()) return Status::from_errno(cannot_listen(path), errno);
  if (::connect(probe.get(), as_sockaddr(address), sizeof address) != 0 && errno == ECONNREFUSED) {
    ::unlink(path.c_str());
    return Status::ok();
  }
  return Status(ErrorCode::kInUse, cannot_listen(path) +
                                       ": because another process serves this socket. Stop it or "
                                       "choose another path.");
}

Status bind_and_listen(int fd, const sockaddr* address, socklen_t length, const std::string& name) {
  if (::bind(fd, address, length) != 0 || ::listen(fd, SOMAXCONN) != 0) {
    if (errno == EADDRINUSE) {
      return Status(ErrorCode::kInUse,
                    cannot_listen(name) + ": because the address is in use. Choose another one.",
                    EADDRINUSE);
    }
    return Status::from_errno(cannot_listen(name), errno);
  }
  return Status::ok();
}

std::string tcp_address_of(int fd) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length);
  char host[NI_MAXHOST];
  char port[NI_MAXSERV];
  if (::getnameinfo(reinterpret_cast<sockaddr*>(&address), length, host, sizeof host, port,
                    sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    return {};
  }
  const bool is_ipv6 = address.ss_family == AF_INET6;
  return (is_ipv6 ? "[" + std::string(host) + "]" : std::string(host)) + ":" + port;
}

Status cannot_take(int fd, const std::string& because) {
  return {ErrorCode::kInvalidArgument, "Cannot listen on descriptor " + std::to_string(fd) +
                                           ": because " + because +
                                           " Hand over a stream socket that listens."};
}

int socket_option(int fd, int option) noexcept {
  int value = -1;
  socklen_t length = sizeof value;
  return ::getsockopt(fd, SOL_SOCKET, option, &value, &length) == 0 ? value : -1;
}

// Anything else than a listening stream socket would fail later, or worse, work in
// part (CVE-2025-40080 is the kernel's client taking any socket for one).
Status check_listens(int fd) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) return cannot_take(fd, "it is not open.");
  if (!S_ISSOCK(status.st_mode)) return cannot_take(fd, "it is no socket.");
  if (socket_option(fd, SO_TYPE) != SOCK_STREAM) return cannot_take(fd, "it is no stream socket.");
  const int domain = socket_option(fd, SO_DOMAIN);
  if (domain != AF_UNIX && domain != AF_INET && domain != AF_INET6) {
    return cannot_take(fd, "it is neither a Unix nor a TCP socket.");
  }
  if (domain != AF_UNIX && socket_option(fd, SO_PROTOCOL) != IPPROTO_TCP) {
    return cannot_take(fd, "it does not speak TCP.");
  }
  if (socket_option(fd, SO_ACCEPTCONN) != 1) return cannot_take(fd, "it does not listen.");
  return Status::ok();
}

std::string unix_address_of(int fd) {
  sockaddr_un address{};
  socklen_t length = sizeof address;
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length);
  const size_t path_bytes = length - offsetof(sockaddr_un, sun_path);
  // An abstract name begins with a NUL and is shown with an @, as tools do.
  std::string path(address.sun_path, std::min(path_bytes, sizeof address.sun_path));
  if (!path.empty() && path[0] == '\0') path[0] = '@';
  return "unix:" + std::string(path.c_str());
}

}  // namespace

Result<ListeningSocket> ListeningSocket::open(const NbdServerParameters& parameters) {
  const int places = int{!parameters.unix_path.empty()} + int{!parameters.host.empty()} +
                     int{parameters.listen_fd >= 0};
  if (places != 1) {
    return Status(ErrorCode::kInvalidArgument,
                  "Cannot start the NBD server: because it needs either the path of a Unix socket, "
                  "a host, or a socket that listens. Give one of them.");
  }
  if (parameters.listen_fd >= 0) return take_over(parameters.listen_fd);
  return parameters.unix_path.empty() ? open_tcp(parameters.host, parameters.port)
                                      : open_unix(parameters.unix_path);
}

Result<ListeningSocket> ListeningSocket::open_unix(const std::string& path) {
  Result<sockaddr_un> address = unix_address(path);
  if (!address.is_ok()) return address.status();
  ListeningSocket self;
  self.fd_.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!self.fd_.is_open()) return Status::from_errno(cannot_listen(path), errno);
  const UniqueFd turn = lock_directory_of(path);
  Status status = remove_stale(path, address.value());
  if (!status.is_ok()) return status;
  status = bind_and_listen(self.fd_.get(), as_sockaddr(address.value()), sizeof(sockaddr_un), path);
  if (!status.is_ok()) return status;
  struct stat bound {};
  if (::lstat(path.c_str(), &bound) != 0) return Status::from_errno(cannot_listen(path), errno);
  self.unix_device_ = bound.st_dev;
  self.unix_inode_ = bound.st_ino;
  self.unix_path_ = path;
  self.is_unix_ = true;
  self.address_ = "unix:" + path;
  return self;
}

Result<ListeningSocket> ListeningSocket::open_tcp(const std::string& host, uint16_t port) {
  const std::string name = host + " port " + std::to_string(port);
  addrinfo hints{};
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found) != 0) {
    return Status(ErrorCode::kInvalidArgument,
                  cannot_listen(name) +
                      ": because the host is no numeric address. Give one such as 127.0.0.1.");
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owned(found, &::freeaddrinfo);
  ListeningSocket self;
  self.fd_.reset(::socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!self.fd_.is_open()) return Status::from_errno(cannot_listen(name), errno);
  const int yes = 1;
  ::setsockopt(self.fd_.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  Status status = bind_and_listen(self.fd_.get(), found->ai_addr, found->ai_addrlen, name);
  if (!status.is_ok()) return status;
  self.address_ = tcp_address_of(self.fd_.get());
  return self;
}

// The path of a Unix socket that was handed over stays: it is another's.
Result<ListeningSocket> ListeningSocket::take_over(int fd) {
  Status status = check_listens(fd);
  if (!status.is_ok()) return status;
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 ||
      ::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
    return Status::from_errno(cannot_listen("descriptor " + std::to_string(fd)), errno);
  }
  ListeningSocket self;
  self.fd_.reset(fd);
  self.is_unix_ = socket_option(fd, SO_DOMAIN) == AF_UNIX;
  self.address_ = self.is_unix_ ? unix_address_of(fd) : tcp_address_of(fd);
  return self;
}

void ListeningSocket::prepare(int socket_fd) const noexcept {
  if (is_unix_) {
    prepare_unix_connection(socket_fd);
  } else {
    prepare_tcp_connection(socket_fd);
  }
}

void ListeningSocket::close() {
  if (!fd_.is_open()) return;
  struct stat now {};
  const bool is_ours = !unix_path_.empty() && ::lstat(unix_path_.c_str(), &now) == 0 &&
                       now.st_dev == unix_device_ && now.st_ino == unix_inode_;
  if (is_ours) ::unlink(unix_path_.c_str());
  fd_.reset();
}

}  // namespace tidemark::nbd
