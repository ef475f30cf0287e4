// The server's life: sockets, exports, limits, stop.
#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cstdio>
#include <random>
#include <thread>

#include "nbd_fixture.h"

using namespace nbd_test;
using namespace tidemark;

namespace {

bool path_exists(const std::string& path) {
  struct stat status;
  return ::lstat(path.c_str(), &status) == 0;
}

// Connects nowhere: a bound and closed socket, as a killed server leaves it.
void leave_stale_socket(const std::string& path) {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  REQUIRE(::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  ::close(fd);
}

void allow_descriptors(rlim_t count) {
  rlimit limit{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
  limit.rlim_cur = std::min(std::max(limit.rlim_cur, count), limit.rlim_max);
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

}  // namespace

TEST_CASE("A stale Unix socket is replaced, a live one is in use, other files are kept") {
  ServedDisk disk;
  const std::string path = disk.parameters.unix_path;
  leave_stale_socket(path);
  disk.serve();
  check_alive(disk);
  auto second = NbdServer::start(disk.parameters);
  REQUIRE_FALSE(second.is_ok());
  CHECK(second.status().code() == ErrorCode::kInUse);
  check_alive(disk);
  disk.server->stop();
  CHECK_FALSE(path_exists(path));

  std::fclose(std::fopen(path.c_str(), "w"));
  CHECK(NbdServer::start(disk.parameters).status().code() == ErrorCode::kInUse);
  CHECK(path_exists(path));
  ::unlink(path.c_str());
}

TEST_CASE("A stopped server leaves a successor's socket alone") {
  ServedDisk disk;
  disk.serve();
  const std::string path = disk.parameters.unix_path;
  ::unlink(path.c_str());
  auto successor = start_server(disk.parameters);
  disk.server->stop();
  CHECK(path_exists(path));
  successor->stop();
  CHECK_FALSE(path_exists(path));
}

TEST_CASE("Wrong parameters are named") {
  const auto code = [](const NbdServerParameters& parameters) {
    return NbdServer::start(parameters).status().code();
  };
  NbdServerParameters parameters;
  CHECK(code(parameters) == ErrorCode::kInvalidArgument);
  parameters.unix_path = "/tmp/" + std::string(108, 'x');
  CHECK(code(parameters) == ErrorCode::kInvalidArgument);
  parameters.unix_path = "/nonexistent/directory/nbd.sock";
  CHECK(code(parameters) != ErrorCode::kOk);
  parameters.host = "127.0.0.1";
  CHECK(code(parameters) == ErrorCode::kInvalidArgument);
  parameters.unix_path.clear();
  parameters.host = "no-numeric-host.invalid";
  CHECK(code(parameters) == ErrorCode::kInvalidArgument);
}

TEST_CASE("TCP serves on a port of its own and says which") {
  ServedDisk disk;
  disk.parameters.unix_path.clear();
  disk.parameters.host = "127.0.0.1";
  disk.serve();
  CHECK(disk.server->address().starts_with("127.0.0.1:"));
  CHECK_FALSE(disk.server->address().ends_with(":0"));
  check_alive(disk);
  NbdServerParameters same = disk.parameters;
  same.port = static_cast<uint16_t>(std::stoi(disk.server->address().substr(10)));
  CHECK(NbdServer::start(same).status().code() == ErrorCode::kInUse);
}

TEST_CASE("IPv6 addresses are written in brackets") {
  NbdServerParameters parameters;
  parameters.host = "::1";
  auto server = NbdServer::start(parameters);
  if (!server.is_ok()) {
    MESSAGE("this host has no IPv6 loopback: " << server.status().message());
    return;
  }
  CHECK(server.value()->address().starts_with("[::1]:"));
}

TEST_CASE("Exports come and go under unique names") {
  ServedDisk disk;
  disk.serve("a");
  CHECK(disk.server->add_export({"a", "", false, disk.device}).code() == ErrorCode::kAlreadyExists);
  CHECK(disk.server->add_export({"b", "", false, nullptr}).code() == ErrorCode::kInvalidArgument);
  CHECK(disk.server->remove_export("b").code() == ErrorCode::kNotFound);
  CHECK(disk.server->remove_export("a").is_ok());
  RawClient client = disk.connect();
  client.greet();
  CHECK(client.ask(OPT_GO, info_payload("a")).type == REP_ERR_UNKNOWN);
  CHECK(disk.server->add_export({"a", "", false, disk.device}).is_ok());
  CHECK(disk.server->client_count("a") == 0);
  CHECK(client.ask_all(OPT_GO, info_payload("a")).back().type == REP_ACK);
  CHECK(disk.server->client_count("a") == 1);
  CHECK(disk.server->client_count("b") == 0);
}

TEST_CASE("A server holds nothing of an export that was removed") {
  ServedDisk disk;
  disk.serve("a");
  const long uses = disk.device.use_count();
  for (const bool has_client : {false, true}) {
    CHECK(disk.server->add_export({"b", "", false, disk.device}).is_ok());
    RawClient client = disk.connect();
    client.greet();
    if (has_client) CHECK(client.ask_all(OPT_GO, info_payload("b")).back().type == REP_ACK);
    CHECK(disk.server->remove_export("b").is_ok());
    CHECK(disk.device.use_count() == uses);
  }
}

TEST_CASE("A removed export finishes what is in flight, then its connections end") {
  ServedDisk disk;
  disk.serve("going");
  REQUIRE(disk.server->add_export({"", "", false, disk.device}).is_ok());
  RawClient client = disk.connect();
  client.go("going");
  RawClient bystander = disk.go();
  disk.device->hold(true);
  client.send(request(0, CMD_WRITE, 1, 0, 4, "last"));
  disk.device->wait_for_held(1);
  std::atomic<bool> is_removed{false};
  std::thread remover([&] {
    CHECK(disk.server->remove_export("going").is_ok());
    is_removed = true;
  });
  CHECK_FALSE(is_removed);
  disk.device->release_all();
  remover.join();
  CHECK(client.receive_reply().error == 0);
  CHECK(client.is_ended());
  CHECK(bystander.call(0, CMD_READ, 0, 4).payload == "last");
}

TEST_CASE("What was received but not begun when its export is removed is answered ESHUTDOWN") {
  ServedDisk disk;
  disk.parameters.thread_count = 1;
  disk.serve();
  RawClient client = disk.go();
  RawClient idle = disk.go();
  disk.device->hold(true);
  std::string requests;
  for (uint64_t i = 0; i < 1100; ++i) requests += request(0, CMD_FLUSH, i, 0, 0);
  client.send(requests);
  disk.device->wait_for_held(1024);
  std::thread remover([&] { CHECK(disk.server->remove_export("").is_ok()); });
  CHECK(idle.is_ended());  // the one I/O thread has ended both, before any completion
  disk.device->release_all();
  remover.join();
  uint32_t done_count = 0;
  uint32_t refused_count = 0;
  for (int i = 0; i < 1100; ++i) {
    const uint32_t error = client.receive_reply().error;
    done_count += error == 0;
    refused_count += error == 108;
  }
  CHECK(done_count == 1024);
  CHECK(refused_count == 76);
  CHECK(client.is_ended());
}

TEST_CASE("Connections beyond the maximum are closed at once, and a place freed is usable") {
  ServedDisk disk;
  disk.parameters.max_connections = 3;
  disk.serve();
  std::vector<RawClient> clients;
  for (int i = 0; i < 3; ++i) clients.push_back(disk.go());
  CHECK(disk.connect().is_ended());
  clients.pop_back();
  while (disk.server->statistics().connections_open > 2) std::this_thread::yield();
  check_alive(disk);
}

// qemu CVE-2024-7409
TEST_CASE("A stop does not wait for a thousand half-open handshakes") {
  ServedDisk disk;
  disk.parameters.max_connections = 2000;
  disk.parameters.handshake_limit = std::chrono::hours(1);
  disk.serve();
  std::vector<RawClient> idle;
  allow_descriptors(4096);
  for (int i = 0; i < 1000; ++i) {
    idle.push_back(disk.connect());
    if (i % 3 == 1) idle.back().greet();
    if (i % 3 == 2) idle.back().send(u32(3) + "IHAVEOPT" + u32(OPT_GO) + u32(100) + "half");
  }
  RawClient working = disk.go();
  disk.server->stop();
  CHECK(working.is_ended());
  for (RawClient& client : idle) client.receive_rest();
  CHECK(disk.server->statistics().connections_open == 0);
}

TEST_CASE("A stop lets requests in flight finish and sends their replies") {
  ServedDisk disk;
  disk.serve();
  RawClient client = disk.go();
  disk.device->hold(true);
  client.send(request(0, CMD_WRITE, 1, 0, 4, "done") + request(0, CMD_READ, 2, 0, 4096));
  disk.device->wait_for_held(2);
  RawClient probe = disk.connect();
  std::thread stopper([&] { disk.server->stop(); });
  CHECK(probe.receive_rest().size() <= 18);  // the stop has begun
  disk.device->release_all();
  stopper.join();
  CHECK(client.receive_reply().error == 0);
  CHECK(client.receive_reply(4096).error == 0);
  CHECK(client.is_ended());
  disk.server->stop();
}

TEST_CASE("A stop is not held up for long by a client that reads nothing") {
  ServedDisk disk;
  disk.serve();
  RawClient client = disk.go();
  for (uint64_t i = 0; i < 64; ++i) client.send(request(0, CMD_READ, i, 0, 1 << 20));
  check_alive(disk);
  disk.server->stop();
}

TEST_CASE("Stop at any moment under load of several clients") {
  for (uint64_t seed = 0; seed < 30; ++seed) {
    ServedDisk disk;
    disk.serve();
    std::atomic<uint64_t> replies{0};
    std::atomic<int> ready_count{0};
    std::vector<std::thread> clients;
    for (uint64_t i = 0; i < 4; ++i) {
      clients.emplace_back([&, i] {
        RawClient client = disk.go(i % 2 == 0);
        ready_count.fetch_add(1);
        const std::string data(3000, 'x');
        while (client.send(request(0, CMD_WRITE, 1, i * 8192, 3000, data)) &&
               client.receive(16).size() == 16) {
          replies.fetch_add(1);
        }
      });
    }
    while (replies < 4 + seed * 10) std::this_thread::yield();
    while (ready_count < 4) std::this_thread::yield();
    disk.server->stop();
    for (std::thread& client : clients) client.join();
    CHECK(disk.server->statistics().requests_total >= replies);
  }
}

TEST_CASE("Statistics count connections, requests and errors") {
  ServedDisk disk;
  disk.serve();
  RawClient client = disk.go();
  client.call(0, CMD_READ, 0, 512);
  client.call(0, CMD_READ, 0, 0);
  client.call(0, CMD_READ, 1 << 21, 512);
  const NbdServerStatistics statistics = disk.server->statistics();
  CHECK(statistics.connections_open == 1);
  CHECK(statistics.connections_total == 1);
  CHECK(statistics.requests_total == 3);
  CHECK(statistics.errors_total == 1);
}
