// RawClient: speaks NBD as bytes, written from the protocol's specification.
// It shares no code and no constants with the server that it tests.
#pragma once

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>

namespace nbd_test {

using namespace std::string_literals;

inline std::string big_endian(uint64_t value, int byte_count) {
  std::string bytes;
  for (int i = byte_count - 1; i >= 0; --i) bytes += static_cast<char>(value >> (8 * i));
  return bytes;
}
inline std::string u16(uint64_t value) { return big_endian(value, 2); }
inline std::string u32(uint64_t value) { return big_endian(value, 4); }
inline std::string u64(uint64_t value) { return big_endian(value, 8); }

inline uint64_t number(std::string_view bytes, size_t at, size_t byte_count) {
  uint64_t value = 0;
  for (size_t i = 0; i < byte_count; ++i) {
    value = value << 8 | static_cast<unsigned char>(bytes.at(at + i));
  }
  return value;
}

enum : uint32_t {
  OPT_EXPORT_NAME = 1,
  OPT_ABORT = 2,
  OPT_LIST = 3,
  OPT_STARTTLS = 5,
  OPT_INFO = 6,
  OPT_GO = 7,
  OPT_STRUCTURED_REPLY = 8,
  OPT_LIST_META_CONTEXT = 9,
  OPT_SET_META_CONTEXT = 10,
  OPT_EXTENDED_HEADERS = 11,
  REP_ACK = 1,
  REP_SERVER = 2,
  REP_INFO = 3,
  REP_META_CONTEXT = 4,
  REP_ERR_UNSUP = 0x80000001,
  REP_ERR_POLICY = 0x80000002,
  REP_ERR_INVALID = 0x80000003,
  REP_ERR_TLS_REQD = 0x80000005,
  REP_ERR_UNKNOWN = 0x80000006,
  REP_ERR_BLOCK_SIZE_REQD = 0x80000008,
  REP_ERR_TOO_BIG = 0x80000009,
  REP_ERR_EXT_HEADER_REQD = 0x8000000a,
};

enum : uint16_t {
  CMD_READ = 0,
  CMD_WRITE = 1,
  CMD_DISC = 2,
  CMD_FLUSH = 3,
  CMD_TRIM = 4,
  CMD_CACHE = 5,
  CMD_WRITE_ZEROES = 6,
  CMD_BLOCK_STATUS = 7,
  FLAG_FUA = 1,
  FLAG_NO_HOLE = 2,
  FLAG_DF = 4,
  FLAG_REQ_ONE = 8,
  FLAG_FAST_ZERO = 16,
  FLAG_PAYLOAD_LEN = 32,
};

inline std::string option(uint32_t number_of_option, const std::string& payload = {}) {
  return "IHAVEOPT" + u32(number_of_option) + u32(payload.size()) + payload;
}
inline std::string info_payload(const std::string& name, const std::string& infos = {}) {
  return u32(name.size()) + name + u16(infos.size() / 2) + infos;
}
inline std::string context_payload(const std::string& name,
                                   std::initializer_list<std::string> queries) {
  std::string payload = u32(name.size()) + name + u32(queries.size());
  for (const std::string& query : queries) payload += u32(query.size()) + query;
  return payload;
}
inline std::string request(uint16_t flags, uint16_t command, uint64_t cookie, uint64_t offset,
                           uint32_t length, const std::string& payload = {}) {
  return u32(0x25609513) + u16(flags) + u16(command) + u64(cookie) + u64(offset) + u32(length) +
         payload;
}

inline std::string extended_request(uint16_t flags, uint16_t command, uint64_t cookie,
                                    uint64_t offset, uint64_t length,
                                    const std::string& payload = {}) {
  return u32(0x21e41c71) + u16(flags) + u16(command) + u64(cookie) + u64(offset) + u64(length) +
         payload;
}

struct OptionAnswer {
  uint32_t option = 0;
  uint32_t type = 0;
  std::string payload;
};

struct Reply {
  bool is_structured = false;
  uint16_t flags = 0;  // structured: 1 is DONE
  uint16_t type = 0;
  uint64_t cookie = 0;
  uint64_t offset = 0;  // extended: the request's
  uint32_t error = 0;   // simple replies and error chunks
  std::string payload;  // structured: behind the header
};

// A stream inside the socket's: TLS.
class InnerStream {
 public:
  virtual ~InnerStream() = default;
  virtual ssize_t read(void* into, size_t at_most_bytes) = 0;  // as ::read()
  virtual ssize_t write(const void* bytes, size_t length_bytes) = 0;
};

class RawClient {
 public:
  // `address` as NbdServer::address() gives it.
  explicit RawClient(const std::string& address) {
    if (address.starts_with("unix:")) {
      connect_unix(address.substr(5));
    } else {
      connect_tcp(address);
    }
  }
  // A socket of the test's own, connected or not.
  explicit RawClient(int fd) : fd_(fd) {}
  RawClient(RawClient&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)), inner_(std::move(other.inner_)) {}
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;
  ~RawClient() { close(); }

  int fd() const { return fd_; }
  void close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }
  void end_sending() { ::shutdown(fd_, SHUT_WR); }
  // From now on all bytes go through `inner`.
  void go_inside(std::unique_ptr<InnerStream> inner) { inner_ = std::move(inner); }

  // False when the server has hung up.
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = inner_ ? inner_->write(bytes.data(), bytes.size())
                                  : ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }

  std::string receive(size_t length) {
    std::string bytes(length, '\0');
    size_t have = 0;
    while (have < length) {
      const ssize_t part = read_some(&bytes[have], length - have);
      if (part <= 0) break;
      have += static_cast<size_t>(part);
    }
    bytes.resize(have);
    return bytes;
  }

  // True when the server closes without a further byte.
  bool is_ended() {
    char byte;
    return read_some(&byte, 1) <= 0 && !is_timed_out_;
  }
  // Everything until the server closes.
  std::string receive_rest() {
    std::string bytes;
    char buffer[4096];
    ssize_t part;
    while ((part = read_some(buffer, sizeof buffer)) > 0) {
      bytes.append(buffer, static_cast<size_t>(part));
    }
    if (is_timed_out_) FAIL("the server did not close");
    return bytes;
  }

  void greet(uint32_t client_flags = 3) {
    REQUIRE(receive(18) == "NBDMAGICIHAVEOPT" + u16(3));
    REQUIRE(send(u32(client_flags)));
  }

  OptionAnswer receive_answer() {
    const std::string header = receive(20);
    REQUIRE(header.size() == 20);
    REQUIRE(number(header, 0, 8) == 0x0003e889045565a9);
    OptionAnswer answer{static_cast<uint32_t>(number(header, 8, 4)),
                        static_cast<uint32_t>(number(header, 12, 4)),
                        {}};
    answer.payload = receive(number(header, 16, 4));
    return answer;
  }
  OptionAnswer ask(uint32_t number_of_option, const std::string& payload = {}) {
    REQUIRE(send(option(number_of_option, payload)));
    return receive_answer();
  }
  // The answers before the ACK or error, and that one last.
  std::vector<OptionAnswer> ask_all(uint32_t number_of_option, const std::string& payload = {}) {
    std::vector<OptionAnswer> answers{ask(number_of_option, payload)};
    while (answers.back().type != REP_ACK && answers.back().type < 0x80000000) {
      answers.push_back(receive_answer());
    }
    return answers;
  }

  // Into transmission; returns the transmission flags.
  uint16_t go(const std::string& name = {}, bool structured = false,
              std::initializer_list<std::string> contexts = {}) {
    greet();
    return negotiate(name, structured, contexts);
  }
  // The same behind the greeting.
  uint16_t negotiate(const std::string& name = {}, bool structured = false,
                     std::initializer_list<std::string> contexts = {}) {
    if (structured) REQUIRE(ask(OPT_STRUCTURED_REPLY).type == REP_ACK);
    return choose_and_go(name, contexts);
  }

  uint16_t choose_and_go(const std::string& name, std::initializer_list<std::string> contexts) {
    if (contexts.size() > 0) {
      REQUIRE(ask_all(OPT_SET_META_CONTEXT, context_payload(name, contexts)).back().type ==
              REP_ACK);
    }
    const auto answers = ask_all(OPT_GO, info_payload(name));
    REQUIRE(answers.back().type == REP_ACK);
    for (const OptionAnswer& answer : answers) {
      if (answer.type == REP_INFO && number(answer.payload, 0, 2) == 0) {
        return static_cast<uint16_t>(number(answer.payload, 10, 2));
      }
    }
    return 0;
  }

  // Into transmission with extended headers; returns the transmission flags.
  uint16_t go_extended(const std::string& name = {},
                       std::initializer_list<std::string> contexts = {}) {
    greet();
    REQUIRE(ask(OPT_EXTENDED_HEADERS).type == REP_ACK);
    return choose_and_go(name, contexts);
  }

  // `data_length` is what a successful simple reply carries.
  Reply receive_reply(size_t data_length = 0) {
    Reply reply;
    std::string header = receive(16);
    REQUIRE(header.size() == 16);
    if (number(header, 0, 4) == 0x67446698) {
      reply.error = static_cast<uint32_t>(number(header, 4, 4));
      reply.cookie = number(header, 8, 8);
      if (reply.error == 0) reply.payload = receive(data_length);
      return reply;
    }
    REQUIRE(number(header, 0, 4) == 0x668e33ef);
    header += receive(4);
    reply.is_structured = true;
    reply.flags = static_cast<uint16_t>(number(header, 4, 2));
    reply.type = static_cast<uint16_t>(number(header, 6, 2));
    reply.cookie = number(header, 8, 8);
    reply.payload = receive(number(header, 16, 4));
    if ((reply.type & 0x8000) != 0) {
      reply.error = static_cast<uint32_t>(number(reply.payload, 0, 4));
      REQUIRE(number(reply.payload, 4, 2) + 6 == reply.payload.size());
    }
    return reply;
  }
  // One chunk of an extended reply.
  Reply receive_extended() {
    const std::string header = receive(32);
    REQUIRE(header.size() == 32);
    REQUIRE(number(header, 0, 4) == 0x6e8a278c);
    Reply reply;
    reply.is_structured = true;
    reply.flags = static_cast<uint16_t>(number(header, 4, 2));
    reply.type = static_cast<uint16_t>(number(header, 6, 2));
    reply.cookie = number(header, 8, 8);
    reply.offset = number(header, 16, 8);
    reply.payload = receive(number(header, 24, 8));
    if ((reply.type & 0x8000) != 0) {
      reply.error = static_cast<uint32_t>(number(reply.payload, 0, 4));
      REQUIRE(number(reply.payload, 4, 2) + 6 == reply.payload.size());
    }
    return reply;
  }
  // A request with the extended header, and its reply's first chunk.
  Reply call_extended(uint16_t flags, uint16_t command, uint64_t offset, uint64_t length,
                      const std::string& payload = {}) {
    REQUIRE(send(extended_request(flags, command, ++last_cookie_, offset, length, payload)));
    const Reply reply = receive_extended();
    CHECK(reply.cookie == last_cookie_);
    CHECK(reply.offset == offset);
    return reply;
  }

  Reply call(uint16_t flags, uint16_t command, uint64_t offset, uint32_t length,
             const std::string& payload = {}) {
    REQUIRE(send(request(flags, command, ++last_cookie_, offset, length, payload)));
    const Reply reply = receive_reply(command == CMD_READ ? length : 0);
    CHECK(reply.cookie == last_cookie_);
    return reply;
  }

 private:
  ssize_t read_some(void* into, size_t at_most_bytes) {
    if (inner_) return inner_->read(into, at_most_bytes);
    // Far beyond any answer; a test that waits so long has failed.
    pollfd entry{fd_, POLLIN, 0};
    is_timed_out_ = ::poll(&entry, 1, 20'000) != 1;
    return is_timed_out_ ? -1 : ::recv(fd_, into, at_most_bytes, 0);
  }

  void connect_unix(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    fd_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  }
  void connect_tcp(const std::string& host_and_port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const size_t colon = host_and_port.rfind(':');
    address.sin_port = htons(static_cast<uint16_t>(std::stoi(host_and_port.substr(colon + 1))));
    fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  }

  int fd_ = -1;
  std::unique_ptr<InnerStream> inner_;
  bool is_timed_out_ = false;
  uint64_t last_cookie_ = 0x1122334455667700;
};

}  // namespace nbd_test
