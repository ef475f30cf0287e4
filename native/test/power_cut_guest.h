// A guest of the power cuts: one connection to the NBD server, one request at a time,
// blocks that belong to nobody else. It stays in one region for a while, so that the
// others go quiet, flushes now and then, and journals what it was told.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <thread>

#include "common/byte_order.h"
#include "power_cut_journal.h"

namespace tidemark::power_cut {

[[noreturn]] inline void give_up(const std::string& why) {
  std::fprintf(stderr, "power_cut_tool: %s\n", why.c_str());
  ::_exit(1);
}

class Connection {
 public:
  explicit Connection(const std::string& socket_path)
      : fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::snprintf(address.sun_path, sizeof address.sun_path, "%s", socket_path.c_str());
    if (::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
      give_up("the server is not there");
    }
    char greeting[18];
    receive(greeting, sizeof greeting);
    // Both flags, then NBD_OPT_EXPORT_NAME with the empty name.
    const std::byte chosen[] = {std::byte{0}, std::byte{0}, std::byte{0}, std::byte{3}};
    send(chosen, sizeof chosen);
    send("IHAVEOPT\0\0\0\1\0\0\0\0", 16);
    char answer[10];
    receive(answer, sizeof answer);
  }
  ~Connection() { ::close(fd_); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void write(uint64_t first_block, uint64_t block_count, const Block* content, bool is_durable) {
    constexpr uint16_t kFua = 1;
    const uint64_t length_bytes = block_count * kBlockBytes;
    request(is_durable ? kFua : 0, 1, first_block * kBlockBytes, length_bytes);
    send(content, length_bytes);
    take_reply();
  }
  void flush() {
    request(0, 3, 0, 0);
    take_reply();
  }

 private:
  void request(uint16_t flags, uint16_t command, uint64_t offset_bytes, uint64_t length_bytes) {
    std::byte header[28]{};
    store_be<uint32_t>(header, 0x25609513);
    store_be<uint16_t>(header + 4, flags);
    store_be<uint16_t>(header + 6, command);
    store_be<uint64_t>(header + 16, offset_bytes);
    store_be<uint32_t>(header + 24, static_cast<uint32_t>(length_bytes));
    send(header, sizeof header);
  }
  void take_reply() {
    std::byte reply[16];
    receive(reply, sizeof reply);
    if (load_be<uint32_t>(reply + 4) != 0) give_up("the server answered with an error");
  }
  void send(const void* bytes, size_t length_bytes) {
    for (size_t at = 0; at < length_bytes;) {
      const ssize_t sent =
          ::send(fd_, static_cast<const std::byte*>(bytes) + at, length_bytes - at, MSG_NOSIGNAL);
      if (sent <= 0) give_up("the server has hung up");
      at += static_cast<size_t>(sent);
    }
  }
  void receive(void* into, size_t length_bytes) {
    for (size_t at = 0; at < length_bytes;) {
      const ssize_t part = ::recv(fd_, static_cast<std::byte*>(into) + at, length_bytes - at, 0);
      if (part <= 0) give_up("the server has hung up");
      at += static_cast<size_t>(part);
    }
  }

  const int fd_;
};

class Guest {
 public:
  Guest(const std::string& socket_path, Journal& journal, uint64_t number, uint64_t seed)
      : connection_(socket_path), journal_(journal), number_(number), random_(seed + number) {}

  [[noreturn]] void run() {
    for (;;) {
      const uint64_t region = random_() % kRegionCount;
      for (uint64_t left = 1 + random_() % 96; left > 0; --left) write_run(region);
      if (random_() % 3 != 0) flush();
      pause(random_() % 40);
    }
  }

 private:
  void write_run(uint64_t region) {
    const uint64_t block_count = 1 + random_() % 4;
    const uint64_t at = random_() % (kGuestBlocks - block_count + 1);
    const uint64_t first = region * kRegionBlocks + number_ * kGuestBlocks + at;
    const bool is_durable = random_() % 16 == 0;
    ++sequence_;
    Block content[4];
    for (uint64_t i = 0; i < block_count; ++i) content[i] = block_of(first + i, sequence_);
    connection_.write(first, block_count, content, is_durable);
    for (uint64_t i = 0; i < block_count; ++i) {
      journal_.append(
          {is_durable ? RecordKind::kDurable : RecordKind::kAcknowledged, first + i, sequence_});
    }
    if (random_() % 4 == 0) pause(1);
  }
  void flush() {
    const uint64_t record_count = journal_.record_count();
    connection_.flush();
    journal_.append({RecordKind::kFlushed, record_count, 0});
  }
  static void pause(uint64_t ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

  Connection connection_;
  Journal& journal_;
  const uint64_t number_;
  std::mt19937_64 random_;
  uint64_t sequence_ = 0;
};

}  // namespace tidemark::power_cut
