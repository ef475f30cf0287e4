// Traffic inside TLS: the same bytes as outside, however records and sockets cut it.
#include <doctest/doctest.h>

#include <random>
#include <thread>

#include "nbd_tls_fixture.h"

using namespace nbd_test;

namespace {

constexpr uint64_t kDiskBytes = 16 << 20;

std::string random_bytes(std::mt19937_64& random, size_t length) {
  std::string bytes(length, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

// One client on its part of the disk: `rounds` batches of up to 32 requests in
// flight, checked against what the part should hold.
class ModelClient {
 public:
  ModelClient(RawClient client, uint64_t first_byte, size_t length, uint64_t seed)
      : client_(std::move(client)),
        first_byte_(first_byte),
        model_(length, '\0'),
        random_(seed),
        is_structured_(seed % 2 == 0) {
    client_.negotiate({}, is_structured_);
  }

  void run(int rounds, size_t largest) {
    for (int i = 0; i < rounds; ++i) run_batch(largest);
  }
  void read_all() {
    expect_read(0, model_.size());
    finish();
  }

 private:
  // Reads and writes of a batch do not touch, so that their order does not matter.
  void run_batch(size_t largest) {
    const bool is_writing = random_() % 2 == 0;
    const size_t slot = model_.size() / 32;
    for (size_t i = 0; i < 32; ++i) {
      const size_t length = 1 + random_() % std::min(largest, slot);
      const size_t offset = i * slot + random_() % (slot - length + 1);
      if (is_writing) {
        write(offset, random_bytes(random_, length));
      } else {
        expect_read(offset, length);
      }
    }
    finish();
  }

  void write(size_t offset, const std::string& bytes) {
    model_.replace(offset, bytes.size(), bytes);
    batch_ += request(0, CMD_WRITE, expected_.size(), first_byte_ + offset,
                      static_cast<uint32_t>(bytes.size()), bytes);
    expected_.emplace_back();
  }
  void expect_read(size_t offset, size_t length) {
    batch_ +=
        request(0, CMD_READ, expected_.size(), first_byte_ + offset, static_cast<uint32_t>(length));
    expected_.push_back((is_structured_ ? u64(first_byte_ + offset) : "") +
                        model_.substr(offset, length));
  }

  void finish() {
    REQUIRE(client_.send(batch_));
    for (size_t i = 0; i < expected_.size(); ++i) {
      const Reply reply = client_.receive_reply(expected_[i].size());
      if (reply.error != 0 || reply.cookie != i || reply.payload != expected_[i]) {
        FAIL_CHECK("reply " << i << ": error " << reply.error << ", cookie " << reply.cookie);
      }
    }
    batch_.clear();
    expected_.clear();
  }

  RawClient client_;
  const uint64_t first_byte_;
  std::string model_;
  std::mt19937_64 random_;
  const bool is_structured_;
  std::string batch_;
  std::vector<std::string> expected_;
};

}  // namespace

TEST_CASE("Four clients with 32 requests in flight each read what was written, small and 1 MiB") {
  TlsDisk disk(kDiskBytes);
  disk.serve();
  std::vector<ModelClient> clients;
  for (uint64_t i = 0; i < 4; ++i) {
    clients.emplace_back(disk.connect_tls(), i * kDiskBytes / 4, kDiskBytes / 4, i);
  }
  std::vector<std::thread> threads;
  for (ModelClient& client : clients) {
    threads.emplace_back([&client] {
      for (const size_t largest : {16, 600, 5000, 20'000, 131'072}) client.run(6, largest);
      client.read_all();
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_CASE("Requests of 1 MiB and more go both ways, in TLS 1.2 and 1.3") {
  TlsDisk disk(kDiskBytes);
  disk.serve();
  std::mt19937_64 random(3);
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    RawClient client = disk.connect();
    begin_tls(client, {&disk.client_identity, &disk.authority, version});
    client.negotiate();
    for (const size_t length : {1U << 20, (4U << 20) + 1, (8U << 20) - 13}) {
      const std::string bytes = random_bytes(random, length);
      CHECK(client.call(0, CMD_WRITE, 7, static_cast<uint32_t>(length), bytes).error == 0);
      CHECK(client.call(0, CMD_READ, 7, static_cast<uint32_t>(length)).payload == bytes);
    }
  }
}

TEST_CASE("A request in many records, and many requests in one, are the same") {
  TlsDisk disk;
  disk.serve();
  RawClient client = disk.go_tls();
  for (const char byte : request(0, CMD_WRITE, 9, 50, 3, "abc")) client.send({&byte, 1});
  CHECK(client.receive_reply().cookie == 9);
  std::string many;
  for (uint64_t i = 0; i < 400; ++i) many += request(0, CMD_READ, i, 50, 3);
  client.send(many);
  for (uint64_t i = 0; i < 400; ++i) {
    const Reply reply = client.receive_reply(3);
    if (reply.cookie != i || reply.payload != "abc") FAIL_CHECK("reply " << i);
  }
}

TEST_CASE("The replies of a batch share records") {
  TlsDisk disk;
  disk.serve();
  RawClient client = disk.connect();
  TlsClient& tls = begin_tls(client, disk.client_options());
  client.negotiate();
  static int record_count;
  record_count = 0;
  SSL_set_msg_callback(tls.ssl(),
                       [](int is_write, int, int type, const void*, size_t, SSL*, void*) {
                         record_count += !is_write && type == SSL3_RT_HEADER;
                       });
  std::string batch;
  for (uint64_t i = 0; i < 64; ++i) batch += request(0, CMD_READ, i, 0, 512);
  client.send(batch);
  for (uint64_t i = 0; i < 64; ++i) CHECK(client.receive_reply(512).error == 0);
  CHECK(record_count == 3);  // 64 x 528 bytes, 16 KiB a record
}

TEST_CASE("A client that reads late gets everything, and is not read from meanwhile") {
  TlsDisk disk(kDiskBytes);
  disk.serve();
  RawClient client = disk.go_tls();
  constexpr uint32_t kLength = 1 << 20;
  for (uint64_t i = 0; i < 40; ++i) {
    REQUIRE(client.send(request(0, CMD_READ, i, i % 16 * kLength, kLength)));
  }
  RawClient other = disk.go_tls();  // is served all the same
  CHECK(other.call(0, CMD_WRITE, 0, 4, "done").error == 0);
  for (uint64_t i = 0; i < 40; ++i) {
    const Reply reply = client.receive_reply(kLength);
    CHECK(reply.cookie == i);
    CHECK(reply.payload.size() == kLength);
  }
}

TEST_CASE("Replies that come late, on other threads and in any order, go through TLS") {
  TlsDisk disk;
  disk.serve();
  RawClient client = disk.go_tls();
  disk.device->hold(true);
  for (uint64_t i = 0; i < 8; ++i) client.send(request(0, CMD_READ, i, 4096 * i, 2000));
  disk.device->wait_for_held(8);
  disk.device->release_all();
  uint64_t seen = 0;
  for (int i = 0; i < 8; ++i) seen |= 1ULL << client.receive_reply(2000).cookie;
  CHECK(seen == 0xff);
}

TEST_CASE("A client that says it is done still gets its replies, then the server says so too") {
  TlsDisk disk;
  disk.serve();
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    RawClient client = disk.connect();
    TlsClient& tls = begin_tls(client, {&disk.client_identity, &disk.authority, version});
    client.negotiate();
    disk.device->hold(true);
    client.send(request(0, CMD_READ, 5, 0, 100));
    disk.device->wait_for_held(1);
    SSL_shutdown(tls.ssl());
    client.end_sending();
    disk.device->hold(false);
    disk.device->release_all();
    CHECK(client.receive_reply(100).cookie == 5);
    CHECK(client.is_ended());
    CHECK(tls.last_error() == SSL_ERROR_ZERO_RETURN);
  }
}

TEST_CASE("DISC ends with the server's close_notify") {
  TlsDisk disk;
  disk.serve();
  RawClient client = disk.connect();
  TlsClient& tls = begin_tls(client, disk.client_options());
  client.negotiate();
  client.send(request(0, CMD_DISC, 1, 0, 0));
  CHECK(client.is_ended());
  CHECK(tls.last_error() == SSL_ERROR_ZERO_RETURN);
}

TEST_CASE("A stream that is cut off or damaged ends, and what was not whole is not done") {
  TlsDisk disk;
  disk.serve();
  const auto cut_off_after = [&](const std::string& raw_bytes) {
    RawClient client = disk.go_tls();
    CHECK(client.call(0, CMD_WRITE, 0, 4, "good").error == 0);
    REQUIRE(::send(client.fd(), raw_bytes.data(), raw_bytes.size(), MSG_NOSIGNAL) ==
            static_cast<ssize_t>(raw_bytes.size()));
    client.end_sending();
    CHECK(client.is_ended());
  };
  cut_off_after("");
  cut_off_after(request(0, CMD_WRITE, 1, 0, 4, "evil"));              // in the clear
  cut_off_after("\x17\x03\x03\x00\x20"s + std::string(32, 'x'));      // a forged record
  cut_off_after("\x17\x03\x03\x40\x00"s);                             // half of one
  cut_off_after("\x17\x03\x03\xff\xff"s + std::string(70'000, 'x'));  // one that is too long
  RawClient client = disk.go_tls();
  CHECK(client.call(0, CMD_READ, 0, 4).payload == "good");
}

TEST_CASE("Keys may be updated, and a renegotiation is refused") {
  TlsDisk disk;
  disk.serve();
  RawClient modern = disk.connect();
  TlsClient& tls13 = begin_tls(modern, {&disk.client_identity, &disk.authority, TLS1_3_VERSION});
  modern.negotiate();
  for (int i = 0; i < 100; ++i) {
    REQUIRE(SSL_key_update(tls13.ssl(), SSL_KEY_UPDATE_REQUESTED) == 1);
    CHECK(modern.call(0, CMD_READ, 0, 4).payload.size() == 4);
  }
  RawClient old = disk.connect();
  TlsClient& tls12 = begin_tls(old, {&disk.client_identity, &disk.authority, TLS1_2_VERSION});
  old.negotiate();
  REQUIRE(SSL_renegotiate(tls12.ssl()) == 1);
  CHECK_FALSE(tls12.shake_hands());
  check_alive(disk);
}

TEST_CASE("A stop under load inside TLS finishes what is in flight") {
  TlsDisk disk;
  disk.serve();
  RawClient client = disk.go_tls();
  disk.device->hold(true);
  client.send(request(0, CMD_WRITE, 1, 0, 4, "last"));
  disk.device->wait_for_held(1);
  std::thread stopper([&] { disk.server->stop(); });
  disk.device->release_all();
  CHECK(client.receive_reply().cookie == 1);
  CHECK(client.is_ended());
  stopper.join();
}
