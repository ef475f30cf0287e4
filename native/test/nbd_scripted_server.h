// ScriptedServer: an NBD server for one export that answers as a test tells it,
// written from the protocol's specification with the raw client's constants. It
// shares no code with the client that it tests, and with our server neither.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <atomic>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "nbd_raw_client.h"
#include "scratch_file.h"

namespace nbd_test {

enum : uint16_t {
  HAS_FLAGS = 1,
  READ_ONLY = 2,
  SEND_FLUSH = 4,
  SEND_FUA = 8,
  SEND_TRIM = 32,
  SEND_WRITE_ZEROES = 64,
  CAN_MULTI_CONN = 256,
  SEND_FAST_ZERO = 2048,
};

struct WireRequest {
  uint16_t flags = 0, command = 0;
  uint64_t cookie = 0, offset = 0;
  uint32_t length = 0;
  std::string payload;
};

inline std::string simple(uint64_t cookie, uint32_t error = 0, const std::string& data = {}) {
  return u32(0x67446698) + u32(error) + u64(cookie) + data;
}
inline std::string chunk(uint64_t cookie, uint16_t type, bool done, const std::string& payload) {
  return u32(0x668e33ef) + u16(done ? 1 : 0) + u16(type) + u64(cookie) + u32(payload.size()) +
         payload;
}
inline std::string data_chunk(uint64_t cookie, uint64_t offset, const std::string& data,
                              bool done) {
  return chunk(cookie, 1, done, u64(offset) + data);
}
inline std::string hole_chunk(uint64_t cookie, uint64_t offset, uint32_t length, bool done) {
  return chunk(cookie, 2, done, u64(offset) + u32(length));
}
inline std::string error_chunk(uint64_t cookie, uint32_t error, bool done) {
  return chunk(cookie, 0x8001, done, u32(error) + u16(4) + "text");
}

class ScriptedServer {
 public:
  // The bytes to send; nullopt hangs up. `connection` counts from 0. May be called
  // from several threads.
  using Answer =
      std::function<std::optional<std::string>(int connection, const WireRequest& request)>;

  struct Settings {
    uint64_t size = 1 << 20;
    uint16_t flags = HAS_FLAGS | SEND_FLUSH | SEND_FUA | SEND_TRIM | SEND_WRITE_ZEROES;
    bool structured = true;
    uint32_t minimum = 1, preferred = 4096, maximum = 32 << 20;
    uint32_t go_error = 0;  // instead of an ACK
    std::string greeting = "NBDMAGICIHAVEOPT" + u16(3);
  };

  ScriptedServer(Settings settings, Answer answer)
      : settings_(std::move(settings)), answer_(std::move(answer)) {
    path_ = scratch_.path() + "/scripted.sock";
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path_.c_str(), path_.size() + 1);
    listener_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(::bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(::listen(listener_, 64) == 0);
    threads_.emplace_back([this] { accept_all(); });
  }
  ~ScriptedServer() {
    is_over_ = true;
    ::shutdown(listener_, SHUT_RDWR);
    hang_up();
    threads_[0].join();
    for (size_t i = 1; i < threads_.size(); ++i) threads_[i].join();
    for (const int fd : fds_) ::close(fd);
    ::close(listener_);
  }

  const std::string& path() const { return path_; }
  int connection_count() const { return connection_count_; }
  // Every connection, in the middle of whatever it does.
  void hang_up() {
    const std::lock_guard lock(mutex_);
    for (const int fd : fds_) ::shutdown(fd, SHUT_RDWR);
  }

 private:
  void accept_all() {
    while (!is_over_) {
      const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) return;
      const std::lock_guard lock(mutex_);
      fds_.push_back(fd);
      if (is_over_) ::shutdown(fd, SHUT_RDWR);
      threads_.emplace_back([this, fd, number = connection_count_++] {
        serve(fd, number);
        ::shutdown(fd, SHUT_RDWR);
      });
    }
  }

  static bool receive(int fd, std::string& bytes, size_t length) {
    bytes.resize(length);
    return length == 0 || ::recv(fd, bytes.data(), length, MSG_WAITALL) == ssize_t(length);
  }
  static bool send(int fd, const std::string& bytes) {
    return ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL) == ssize_t(bytes.size());
  }
  static std::string reply(uint32_t option, uint32_t type, const std::string& payload = {}) {
    return u64(0x0003e889045565a9) + u32(option) + u32(type) + u32(payload.size()) + payload;
  }

  // True: into transmission.
  bool negotiate(int fd, bool& structured) {
    std::string bytes;
    if (!send(fd, settings_.greeting) || !receive(fd, bytes, 4)) return false;
    for (;;) {
      std::string payload;
      if (!receive(fd, bytes, 16)) return false;
      const auto option = static_cast<uint32_t>(number(bytes, 8, 4));
      if (!receive(fd, payload, number(bytes, 12, 4))) return false;
      if (option == OPT_STRUCTURED_REPLY) {
        structured = settings_.structured;
        if (!send(fd, reply(option, structured ? REP_ACK : REP_ERR_UNSUP))) return false;
      } else if (option == OPT_GO && settings_.go_error == 0) {
        const std::string info = u16(0) + u64(settings_.size) + u16(settings_.flags);
        const std::string sizes =
            u16(3) + u32(settings_.minimum) + u32(settings_.preferred) + u32(settings_.maximum);
        return send(fd, reply(option, REP_INFO, info) + reply(option, REP_INFO, sizes) +
                            reply(option, REP_ACK));
      } else if (!send(fd, reply(option, option == OPT_GO ? settings_.go_error : REP_ERR_UNSUP))) {
        return false;
      }
    }
  }

  void serve(int fd, int connection) {
    bool structured = false;
    if (!negotiate(fd, structured)) return;
    for (;;) {
      std::string bytes;
      if (!receive(fd, bytes, 28)) return;
      WireRequest request;
      request.flags = static_cast<uint16_t>(number(bytes, 4, 2));
      request.command = static_cast<uint16_t>(number(bytes, 6, 2));
      request.cookie = number(bytes, 8, 8);
      request.offset = number(bytes, 16, 8);
      request.length = static_cast<uint32_t>(number(bytes, 24, 4));
      if (request.command == CMD_DISC) return;
      const bool has_payload = request.command == CMD_WRITE;
      if (has_payload && !receive(fd, request.payload, request.length)) return;
      const auto answer = answer_(connection, request);
      if (!answer || !send(fd, *answer)) return;
    }
  }

  const Settings settings_;
  const Answer answer_;
  tidemark::ScratchDirectory scratch_;
  std::string path_;
  int listener_ = -1;
  std::atomic<bool> is_over_{false};
  std::atomic<int> connection_count_{0};
  std::mutex mutex_;
  std::vector<int> fds_;
  std::vector<std::thread> threads_;
};

}  // namespace nbd_test
