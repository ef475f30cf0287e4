// Limits that hold: silent clients, clients that do not read, memory, sockets that
// are handed over, and what a stop leaves behind.
#include <doctest/doctest.h>
#include <fcntl.h>

#include <fstream>
#include <thread>

#include "nbd_fixture.h"

using namespace nbd_test;
using namespace tidemark;
using std::chrono::milliseconds;

namespace {

void serve_tcp(ServedDisk& disk) {
  disk.parameters.unix_path.clear();
  disk.parameters.host = "127.0.0.1";
  disk.serve();
}

uint64_t resident_bytes() {
  std::ifstream status("/proc/self/statm");
  uint64_t total_pages = 0;
  uint64_t resident_pages = 0;
  status >> total_pages >> resident_pages;
  return resident_pages * 4096;
}

int listening_unix(int type, const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  const int fd = ::socket(AF_UNIX, type, 0);
  REQUIRE(::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  if (type != SOCK_DGRAM) REQUIRE(::listen(fd, 8) == 0);
  return fd;
}

int listening_tcp() {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  REQUIRE(::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  REQUIRE(::listen(fd, 8) == 0);
  return fd;
}

// Refused, and left to its owner.
void check_refused(int fd) {
  NbdServerParameters parameters;
  parameters.listen_fd = fd;
  CHECK(NbdServer::start(parameters).status().code() == ErrorCode::kInvalidArgument);
  CHECK(::fcntl(fd, F_GETFD) >= 0);
  ::close(fd);
}

}  // namespace

TEST_CASE("A silent client is closed after the idle limit; a working or waiting one is not") {
  ServedDisk disk;
  disk.parameters.idle_limit = milliseconds(400);
  disk.serve();
  RawClient silent = disk.go();
  RawClient waiting = disk.go();
  RawClient working = disk.go();
  disk.device->hold(true);
  waiting.send(request(0, CMD_READ, 1, 4096, 512));
  disk.device->wait_for_held(1);
  disk.device->hold(false);
  std::atomic<bool> is_closed{false};
  std::thread watcher([&] {
    CHECK(silent.is_ended());
    is_closed = true;
  });
  while (!is_closed) {
    REQUIRE(working.call(0, CMD_READ, 0, 512).error == 0);
    std::this_thread::sleep_for(milliseconds(5));
  }
  watcher.join();
  CHECK(disk.device->held_count() == 1);
  disk.device->release_all();
  CHECK(waiting.receive_reply(512).error == 0);
  CHECK(waiting.is_ended());  // silent from here on
}

TEST_CASE("A client that reads none of its replies is silent, too") {
  ServedDisk disk;
  disk.parameters.idle_limit = milliseconds(200);
  disk.serve();
  RawClient client = disk.go();
  std::string requests;
  for (uint64_t i = 0; i < 64; ++i) requests += request(0, CMD_READ, i, 0, 1 << 20);
  client.send(requests);
  while (disk.server->statistics().connections_open > 0) std::this_thread::yield();
  check_alive(disk);
}

TEST_CASE("A client that sends a large payload slowly over TCP is not silent") {
  constexpr size_t kPieceBytes = 64 * 1024;
  ServedDisk disk;
  disk.parameters.idle_limit = milliseconds(300);
  serve_tcp(disk);
  RawClient client = disk.go();
  client.send(request(0, CMD_WRITE, 1, 0, 16 * kPieceBytes));
  for (char piece = 'a'; piece < 'a' + 16; ++piece) {
    std::this_thread::sleep_for(milliseconds(50));
    client.send(std::string(kPieceBytes, piece));
  }
  CHECK(client.receive_reply(0).error == 0);
  for (size_t piece = 0; piece < 16; ++piece) {
    CHECK(client.call(0, CMD_READ, piece * kPieceBytes, kPieceBytes).payload ==
          std::string(kPieceBytes, static_cast<char>('a' + piece)));
  }
}

TEST_CASE("Without an idle limit a client may be silent") {
  ServedDisk disk;
  disk.parameters.handshake_limit = milliseconds(50);
  disk.serve();
  RawClient silent = disk.go();
  std::this_thread::sleep_for(milliseconds(300));
  CHECK(silent.call(0, CMD_READ, 0, 512).error == 0);
}

TEST_CASE("The removal of an export is not held up by clients that read nothing") {
  ServedDisk disk;
  disk.serve();
  std::vector<RawClient> clients;
  for (int i = 0; i < 3; ++i) {
    clients.push_back(disk.go(i == 1));
    std::string requests;
    for (uint64_t j = 0; j < 64; ++j) requests += request(0, CMD_READ, j, 0, 1 << 20);
    clients.back().send(requests);
  }
  while (disk.device->take_seen().empty()) std::this_thread::yield();
  CHECK(disk.server->remove_export("").is_ok());
  CHECK(disk.server->add_export({"", "", false, disk.device}).is_ok());
  check_alive(disk);
}

TEST_CASE("An I/O thread without work gives its buffers back") {
  constexpr uint64_t kBurstBytes = 48 << 20;
  ServedDisk disk;
  disk.parameters.thread_count = 2;
  disk.parameters.buffer_keep_time = milliseconds(100);
  disk.serve();
  check_alive(disk);
  const uint64_t before = resident_bytes();
  uint64_t most = 0;
  {
    RawClient one = disk.go();
    RawClient two = disk.go();
    disk.device->hold(true);
    for (RawClient* client : {&one, &two}) {
      std::string requests;
      for (uint64_t i = 0; i < 24; ++i) requests += request(0, CMD_READ, i, 0, 1 << 20);
      client->send(requests);
    }
    disk.device->wait_for_held(48);
    std::thread other([&] { disk.device->release_all(); });
    for (int i = 0; i < 24; ++i) {
      REQUIRE(one.receive_reply(1 << 20).error == 0);
      REQUIRE(two.receive_reply(1 << 20).error == 0);
    }
    other.join();
    most = resident_bytes();
    // Both are still connected: it is the memory of idle connections that counts.
    if (most > before + kBurstBytes / 2) {
      while (resident_bytes() > before + kBurstBytes / 4) std::this_thread::yield();
    }
  }
  check_alive(disk);
}

TEST_CASE("A socket that is handed over is served, and its path is not taken away") {
  TemporaryDirectory directory;
  const std::string path = directory.path() + "/handed.sock";
  for (const bool tcp : {false, true}) {
    ServedDisk disk;
    disk.parameters.unix_path.clear();
    disk.parameters.listen_fd = tcp ? listening_tcp() : listening_unix(SOCK_STREAM, path);
    disk.serve();
    if (!tcp) CHECK(disk.server->address() == "unix:" + path);
    if (tcp) CHECK(disk.server->address().starts_with("127.0.0.1:"));
    check_alive(disk);
    disk.server->stop();
    CHECK((tcp || ::access(path.c_str(), F_OK) == 0));
  }
  ::unlink(path.c_str());
}

// CVE-2025-40080 is the kernel's client taking any socket for a stream.
TEST_CASE("Only a stream socket that listens can be handed over") {
  TemporaryDirectory directory;
  const std::string path = directory.path() + "/other.sock";
  NbdServerParameters closed;
  closed.listen_fd = 1'000'000;
  CHECK(NbdServer::start(closed).status().code() == ErrorCode::kInvalidArgument);
  check_refused(::open("/dev/null", O_RDWR));
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  check_refused(ends[0]);
  check_refused(ends[1]);
  check_refused(::socket(AF_INET, SOCK_DGRAM, 0));
  check_refused(::socket(AF_INET, SOCK_STREAM, 0));
  check_refused(::socket(AF_UNIX, SOCK_STREAM, 0));
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
  check_refused(ends[0]);
  check_refused(ends[1]);
  for (const int type : {SOCK_SEQPACKET, SOCK_DGRAM}) {
    check_refused(listening_unix(type, path));
    ::unlink(path.c_str());
  }
  NbdServerParameters two_places;
  two_places.host = "127.0.0.1";
  two_places.listen_fd = 0;
  CHECK(NbdServer::start(two_places).status().code() == ErrorCode::kInvalidArgument);
}

// A stop is a pause for a guest: what was not begun has no answer at all, so that
// the client sends it again to the successor. ESHUTDOWN would be an error to it.
TEST_CASE("At a stop what was begun is answered, all of it, and the rest not at all") {
  for (const bool tcp : {false, true}) {
    ServedDisk disk;
    if (tcp) {
      serve_tcp(disk);
    } else {
      disk.serve();
    }
    RawClient client = disk.go();
    disk.device->hold(true);
    std::string requests;
    for (uint64_t i = 0; i < 1024 + 76; ++i) requests += request(0, CMD_READ, i, 0, 4096);
    client.send(requests);
    disk.device->wait_for_held(1024);
    // The server reads no more now: these stay in its socket.
    client.send(request(0, CMD_WRITE, 5000, 0, 60000, std::string(60000, 'x')));
    RawClient probe = disk.connect();
    std::thread stopper([&] { disk.server->stop(); });
    CHECK(probe.receive_rest().size() <= 18);  // the stop has begun
    disk.device->release_all();
    std::this_thread::sleep_for(milliseconds(50));  // replies in flight when it would close
    uint64_t answered = 0;
    for (int i = 0; i < 1024; ++i) {
      const Reply reply = client.receive_reply(4096);
      REQUIRE(reply.error == 0);
      REQUIRE(reply.payload.size() == 4096);
      answered += reply.cookie;
    }
    CHECK(answered == 1023 * 1024 / 2);
    CHECK(client.is_ended());
    stopper.join();
    CHECK((disk.device->content(0, 4) == "\0\0\0\0"s));
  }
}

TEST_CASE("A stop under the load of sixteen connections never answers with an error") {
  for (const bool tcp : {false, true}) {
    for (uint64_t seed = 0; seed < 5; ++seed) {
      ServedDisk disk;
      if (tcp) {
        serve_tcp(disk);
      } else {
        disk.serve();
      }
      std::atomic<uint64_t> replies{0};
      std::atomic<uint64_t> errors{0};
      std::atomic<int> ready_count{0};
      std::vector<std::thread> clients;
      for (uint64_t i = 0; i < 16; ++i) {
        clients.emplace_back([&, i] {
          RawClient client = disk.go();
          ready_count.fetch_add(1);
          std::string requests;
          for (uint64_t j = 0; j < 8; ++j) {
            requests += request(0, CMD_WRITE, j, i * 65536, 2000, std::string(2000, 'w'));
          }
          int outstanding = 0;
          while (outstanding > 0 || client.send(requests)) {
            if (outstanding == 0) outstanding = 8;
            const std::string reply = client.receive(16);
            if (reply.size() < 16) break;
            --outstanding;
            replies.fetch_add(1);
            errors.fetch_add(number(reply, 4, 4) != 0);
          }
        });
      }
      while (ready_count < 16 || replies < 300 * (seed + 1)) std::this_thread::yield();
      disk.server->stop();
      for (std::thread& client : clients) client.join();
      CHECK(errors == 0);
      CHECK(disk.server->statistics().errors_total == 0);
    }
  }
}
