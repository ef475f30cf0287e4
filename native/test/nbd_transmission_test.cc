// The transmission phase, byte by byte as the NBD specification writes it.
#include <doctest/doctest.h>

#include <cerrno>
#include <random>
#include <thread>

#include "nbd_fixture.h"

using namespace nbd_test;
using namespace tidemark;

namespace {

enum : uint32_t {
  EPERM_WIRE = 1,
  EIO_WIRE = 5,
  EINVAL_WIRE = 22,
  ENOSPC_WIRE = 28,
  EOVERFLOW_WIRE = 75,
  ENOTSUP_WIRE = 95,
  ESHUTDOWN_WIRE = 108,
};

constexpr uint64_t kEnd = ServedDisk::kSizeBytes;

std::string random_bytes(std::mt19937_64& random, size_t length) {
  std::string bytes(length, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

// Reports any size, keeps nothing.
class BottomlessDevice : public BlockDevice {
 public:
  explicit BottomlessDevice(uint64_t size_bytes) : size_bytes_(size_bytes) {}
  uint64_t size_bytes() const noexcept override { return size_bytes_; }
  const DeviceTraits& traits() const noexcept override { return traits_; }
  void submit(IoRequest& request) noexcept override {
    if (request.op == IoOp::kRead) std::memset(request.data, 0, request.length_bytes);
    request.complete(0);
  }

 private:
  const uint64_t size_bytes_;
  const DeviceTraits traits_;
};

}  // namespace

TEST_CASE("Each command reaches the device with its range and flags") {
  ServedDisk disk;
  disk.serve();
  RawClient client = disk.go();
  CHECK(client.call(0, CMD_WRITE, 100, 5, "hello").error == 0);
  CHECK(client.call(FLAG_FUA, CMD_WRITE, 105, 6, " world").error == 0);
  CHECK(client.call(0, CMD_READ, 99, 13).payload == "\0hello world\0"s);
  CHECK(client.call(FLAG_FUA, CMD_READ, 100, 5).payload == "hello");
  CHECK(client.call(FLAG_FUA, CMD_FLUSH, 0, 0).error == 0);
  CHECK(client.call(FLAG_FUA, CMD_TRIM, 4096, 8192).error == 0);
  CHECK(client.call(FLAG_NO_HOLE, CMD_WRITE_ZEROES, 101, 3).error == 0);
  CHECK(client.call(FLAG_FAST_ZERO | FLAG_FUA, CMD_WRITE_ZEROES, 0, 1).error == 0);
  CHECK(disk.device->content(100, 11) == "h\0\0\0o world"s);
  CHECK(disk.device->take_seen() ==
        std::vector<SeenRequest>{{IoOp::kWrite, 0, 100, 5},
                                 {IoOp::kWrite, kIoFua, 105, 6},
                                 {IoOp::kRead, 0, 99, 13},
                                 {IoOp::kRead, 0, 100, 5},
                                 {IoOp::kFlush, 0, 0, 0},
                                 {IoOp::kTrim, kIoFua, 4096, 8192},
                                 {IoOp::kWriteZeroes, kIoNoHole, 101, 3},
                                 {IoOp::kWriteZeroes, kIoFastZero | kIoFua, 0, 1}});
}

// Conformance: errors-server-{invalid-offset, oversize, unadvertised-cmd, unaligned,
// unknown-flags, zerosize}. The connection stays after each.
TEST_CASE("Every wrong request has its error and does not reach the device") {
  ServedDisk disk;
  disk.serve();
  for (const bool structured : {false, true}) {
    RawClient client = disk.go(structured);
    const auto error = [&](uint16_t flags, uint16_t command, uint64_t offset, uint64_t length) {
      const size_t payload = command == CMD_WRITE ? length : 0;
      return client
          .call(flags, command, offset, static_cast<uint32_t>(length), std::string(payload, 'x'))
          .error;
    };
    for (const uint64_t offset :
         {kEnd, kEnd - 511, kEnd + 1, uint64_t{1} << 63, ~uint64_t{0}, ~uint64_t{0} - 511}) {
      CHECK(error(0, CMD_WRITE, offset, 512) == ENOSPC_WIRE);
      CHECK(error(0, CMD_WRITE_ZEROES, offset, 512) == ENOSPC_WIRE);
      CHECK(error(0, CMD_READ, offset, 512) == EINVAL_WIRE);
      CHECK(error(0, CMD_TRIM, offset, 512) == EINVAL_WIRE);
      CHECK(error(0, CMD_CACHE, offset, 512) == EINVAL_WIRE);
      CHECK(error(0, CMD_BLOCK_STATUS, offset, 512) == EINVAL_WIRE);
    }
    CHECK(error(0, CMD_WRITE_ZEROES, 0, 0xffffffff) == ENOSPC_WIRE);
    CHECK(error(0, CMD_TRIM, 1, 0xffffffff) == EINVAL_WIRE);
    CHECK(error(0, CMD_READ, 0, (32 << 20) + 1) == EINVAL_WIRE);
    CHECK(error(0, CMD_READ, 0, 0xffffffff) == EINVAL_WIRE);
    CHECK(error(0, CMD_WRITE, 0, (32 << 20) + 1) == EINVAL_WIRE);
    CHECK(error(FLAG_DF, CMD_READ, 0, (32 << 20) + 1) ==
          (structured ? EOVERFLOW_WIRE : EINVAL_WIRE));
    for (const uint16_t command : {5, 8, 9, 255, 0xffff}) {
      CHECK(error(0, command, 0, 512) == EINVAL_WIRE);
    }
    CHECK(error(0, CMD_BLOCK_STATUS, 0, 512) == EINVAL_WIRE);  // no context chosen
    CHECK(error(FLAG_NO_HOLE, CMD_WRITE, 0, 512) == EINVAL_WIRE);
    CHECK(error(FLAG_REQ_ONE, CMD_READ, 0, 512) == EINVAL_WIRE);
    CHECK(error(FLAG_DF, CMD_WRITE, 0, 512) == EINVAL_WIRE);
    CHECK(error(FLAG_FAST_ZERO, CMD_TRIM, 0, 512) == EINVAL_WIRE);
    CHECK(error(32, CMD_READ, 0, 512) == EINVAL_WIRE);
    CHECK(error(0x8000, CMD_FLUSH, 0, 0) == EINVAL_WIRE);
    if (!structured) CHECK(error(FLAG_DF, CMD_READ, 0, 512) == EINVAL_WIRE);
    CHECK(disk.device->take_seen().empty());
    CHECK(client.call(FLAG_FUA, CMD_READ, 0, 512).error == 0);
    CHECK(disk.device->take_seen().size() == 1);
  }
}

TEST_CASE("Length zero succeeds without reaching the device") {
  ServedDisk disk;
  disk.serve();
  for (const bool structured : {false, true}) {
    RawClient client = disk.go(structured, {});
    for (const uint16_t command : {CMD_READ, CMD_WRITE, CMD_TRIM, CMD_WRITE_ZEROES}) {
      CHECK(client.call(0, command, 0, 0).error == 0);
      CHECK(client.call(0, command, kEnd, 0).error == 0);
      CHECK(client.call(0, command, kEnd + 1, 0).error != 0);
    }
    CHECK(disk.device->take_seen().empty());
  }
}

TEST_CASE("A read-only export refuses all that writes, payload consumed, nothing changed") {
  ServedDisk disk;
  disk.serve("", true);
  RawClient client = disk.go();
  CHECK(client.call(0, CMD_WRITE, 0, 70000, std::string(70000, 'x')).error == EPERM_WIRE);
  CHECK(client.call(0, CMD_TRIM, 0, 512).error == EPERM_WIRE);
  CHECK(client.call(0, CMD_WRITE_ZEROES, 0, 512).error == EPERM_WIRE);
  CHECK(client.call(0, CMD_FLUSH, 0, 0).error == 0);
  CHECK(client.call(0, CMD_READ, 0, 512).payload == std::string(512, '\0'));
}

TEST_CASE("What is not aligned to the announced minimum is refused") {
  ServedDisk disk;
  disk.device->edit_traits().minimum_block_bytes = 512;
  disk.serve();
  RawClient client = disk.go();
  for (const uint16_t command : {CMD_READ, CMD_WRITE, CMD_TRIM, CMD_WRITE_ZEROES}) {
    const std::string payload(command == CMD_WRITE ? 511 : 0, 'x');
    CHECK(client.call(0, command, 0, 511, payload).error == EINVAL_WIRE);
    const std::string whole(command == CMD_WRITE ? 512 : 0, 'x');
    CHECK(client.call(0, command, 256, 512, whole).error == EINVAL_WIRE);
    CHECK(client.call(0, command, 512, 512, whole).error == 0);
  }
}

TEST_CASE("A device that cannot flush or zero fast is not asked to") {
  ServedDisk disk;
  disk.device->edit_traits().can_flush = false;
  disk.device->edit_traits().fast_zero = false;
  disk.serve();
  RawClient client = disk.go();
  CHECK(client.call(0, CMD_FLUSH, 0, 0).error == EINVAL_WIRE);
  CHECK(client.call(FLAG_FUA, CMD_WRITE, 0, 1, "x").error == EINVAL_WIRE);
  CHECK(client.call(FLAG_FAST_ZERO, CMD_WRITE_ZEROES, 0, 512).error == ENOTSUP_WIRE);
  CHECK(disk.device->take_seen().empty());
  CHECK(client.call(0, CMD_WRITE_ZEROES, 0, 512).error == 0);
}

TEST_CASE("A device's errors become the protocol's, on every command") {
  const std::vector<std::pair<int, uint32_t>> rows = {
      {EIO, EIO_WIRE},     {ENOSPC, ENOSPC_WIRE},       {EDQUOT, ENOSPC_WIRE}, {EFBIG, ENOSPC_WIRE},
      {EROFS, EPERM_WIRE}, {EPERM, EPERM_WIRE},         {ENOMEM, EIO_WIRE},    {EINVAL, EIO_WIRE},
      {ENOTSUP, EIO_WIRE}, {ESHUTDOWN, ESHUTDOWN_WIRE}, {ENXIO, EIO_WIRE},     {4095, EIO_WIRE}};
  ServedDisk disk;
  disk.serve();
  for (const bool structured : {false, true}) {
    RawClient client = disk.go(structured);
    for (const auto& [device_error, wire] : rows) {
      disk.device->fail_all(device_error);
      const Reply read = client.call(0, CMD_READ, 0, 4096);
      CHECK(read.error == wire);
      CHECK(read.is_structured == structured);
      CHECK(client.call(0, CMD_WRITE, 0, 1, "x").error == wire);
      CHECK(client.call(0, CMD_FLUSH, 0, 0).error == wire);
      CHECK(client.call(0, CMD_TRIM, 0, 512).error == wire);
      CHECK(client.call(0, CMD_WRITE_ZEROES, 0, 512).error == wire);
    }
    disk.device->fail_all(ENOTSUP);
    CHECK(client.call(FLAG_FAST_ZERO, CMD_WRITE_ZEROES, 0, 512).error == ENOTSUP_WIRE);
    disk.device->fail_all(0);
    CHECK(client.call(0, CMD_READ, 0, 512).error == 0);
  }
}

TEST_CASE("Structured replies carry reads in one chunk, errors included") {
  ServedDisk disk;
  disk.serve();
  RawClient client = disk.go(true);
  client.call(0, CMD_WRITE, 1000, 4, "data");
  for (const uint16_t flags : {0, int{FLAG_DF}}) {
    const Reply data = client.call(flags, CMD_READ, 1000, 4);
    CHECK(data.is_structured);
    CHECK(data.flags == 1);
    CHECK(data.type == 1);
    CHECK(data.payload == u64(1000) + "data");
  }
  CHECK(client.call(FLAG_DF, CMD_READ, 0, 65536).payload.size() == 65536 + 8);
  const Reply nothing = client.call(0, CMD_READ, 0, 0);
  CHECK(nothing.type == 0);
  CHECK(nothing.flags == 1);
  const Reply error = client.call(0, CMD_READ, kEnd, 1);
  CHECK(error.type == 0x8001);
  CHECK(error.flags == 1);
  CHECK(error.error == EINVAL_WIRE);
}

TEST_CASE("BLOCK_STATUS answers each chosen context, neighbours merged, the request's end kept") {
  ServedDisk disk;
  disk.device->set_extents("base:allocation",
                           {{4096, 0}, {4096, 0}, {0, 3}, {8192, 3}, {1ULL << 40, 0}, {512, 3}});
  disk.device->set_extents("qemu:dirty-bitmap:x", {{65536, 1}, {1 << 20, 0}});
  disk.serve();
  RawClient client = disk.go(true, {"base:allocation", "qemu:dirty-bitmap:x"});
  const Reply first = client.call(0, CMD_BLOCK_STATUS, 0, 131072);
  CHECK(first.type == 5);
  CHECK(first.flags == 0);
  CHECK(first.payload.substr(4) ==
        u32(8192) + u32(0) + u32(8192) + u32(3) + u32(131072 - 16384) + u32(0));
  const Reply second = client.receive_reply();
  CHECK(second.flags == 1);
  CHECK(second.cookie == first.cookie);
  CHECK(second.payload.substr(4) == u32(65536) + u32(1) + u32(65536) + u32(0));
  CHECK(first.payload.substr(0, 4) != second.payload.substr(0, 4));

  const Reply one = client.call(FLAG_REQ_ONE, CMD_BLOCK_STATUS, 0, 131072);
  CHECK(one.payload.substr(4) == u32(8192) + u32(0));
  CHECK(client.receive_reply().payload.substr(4) == u32(65536) + u32(1));
  CHECK(client.call(0, CMD_BLOCK_STATUS, 0, 0).error == EINVAL_WIRE);
  disk.device->fail_extents();
  CHECK(client.call(0, CMD_BLOCK_STATUS, 0, 512).error == EIO_WIRE);
}

// nbdkit CVE-2025-47711, CVE-2025-47712
TEST_CASE("BLOCK_STATUS at 4 GiB keeps its lengths in 32 bits") {
  ServedDisk disk;
  disk.serve("small");
  const uint64_t size_bytes = (1ULL << 63) - 1;
  auto device = std::make_shared<BottomlessDevice>(size_bytes);
  REQUIRE(disk.server->add_export({"", "", false, device}).is_ok());
  RawClient client = disk.go(true, {"base:allocation"});
  for (const uint32_t length : {0xffffffffU, 0xfffffe00U, 0x80000000U}) {
    for (const uint64_t offset : {uint64_t{0}, uint64_t{0xffffffff}, size_bytes - length}) {
      const Reply reply = client.call(0, CMD_BLOCK_STATUS, offset, length);
      CHECK(reply.payload.substr(4) == u32(length) + u32(0));
    }
    CHECK(client.call(0, CMD_BLOCK_STATUS, size_bytes - length + 1, length).error == EINVAL_WIRE);
  }
  CHECK_FALSE(
      disk.server->add_export({"x", "", false, std::make_shared<BottomlessDevice>(1ULL << 63)})
          .is_ok());
}

TEST_CASE("DISC finishes what is in flight and has no reply of its own") {
  ServedDisk disk;
  disk.serve();
  RawClient client = disk.go();
  disk.device->hold(true);
  client.send(request(0, CMD_WRITE, 1, 0, 4, "late") + request(0, CMD_DISC, 2, 0, 0) +
              request(0, CMD_WRITE, 3, 0, 4, "junk"));
  disk.device->wait_for_held(1);
  disk.device->release_all();
  CHECK(client.receive_rest() == u32(0x67446698) + u32(0) + u64(1));
  CHECK(disk.device->content(0, 4) == "late");
}

TEST_CASE("A bad request magic ends the connection") {
  ServedDisk disk;
  disk.serve();
  RawClient client = disk.go();
  client.send(u32(0x25609514) + std::string(24, '\0'));
  CHECK(client.is_ended());
  check_alive(disk);
}

TEST_CASE("Replies leave in the order of completion, each with its own data") {
  ServedDisk disk;
  disk.serve();
  for (const bool structured : {false, true}) {
    RawClient client = disk.go(structured);
    for (uint64_t i = 0; i < 64; ++i) {
      client.call(0, CMD_WRITE, i * 512, 512, std::string(512, static_cast<char>(i)));
    }
    disk.device->hold(true);
    std::string requests;
    for (uint64_t i = 0; i < 64; ++i) requests += request(0, CMD_READ, i, i * 512, 512);
    client.send(requests);
    disk.device->wait_for_held(64);
    std::mt19937_64 random(7);
    std::thread other([&] {
      while (disk.device->held_count() > 0) {
        disk.device->release(random() % disk.device->held_count());
      }
    });
    uint64_t seen = 0;
    for (int i = 0; i < 64; ++i) {
      const Reply reply = client.receive_reply(512);
      seen |= 1ULL << reply.cookie;
      CHECK(reply.payload == (structured ? u64(reply.cookie * 512) : "") +
                                 std::string(512, static_cast<char>(reply.cookie)));
    }
    CHECK(seen == ~0ULL);
    other.join();
    disk.device->hold(false);
  }
}

TEST_CASE("A held read does not hold up the requests behind it") {
  ServedDisk disk;
  disk.serve();
  RawClient client = disk.go();
  disk.device->hold(true);
  client.send(request(0, CMD_READ, 1, 0, 4096));
  disk.device->wait_for_held(1);
  disk.device->hold(false);
  for (int i = 0; i < 1000; ++i) CHECK(client.call(0, CMD_READ, 4096, 4096).error == 0);
  disk.device->release_all();
  CHECK(client.receive_reply(4096).cookie == 1);
}

TEST_CASE("Extents that take their time hold up no read, of no connection") {
  ServedDisk disk;
  disk.device->set_extents("base:allocation", {{1 << 20, 0}});
  disk.device->set_extents("qemu:dirty-bitmap:x", {{1 << 20, 1}});
  disk.serve();
  RawClient client = disk.go(true, {"base:allocation", "qemu:dirty-bitmap:x"});
  RawClient others[] = {disk.go(), disk.go(), disk.go(), disk.go()};  // more than threads
  disk.device->hold_extents(true);
  for (uint64_t cookie = 1; cookie <= 3; ++cookie) {
    client.send(request(0, CMD_BLOCK_STATUS, cookie, 0, 4096));
  }
  for (int i = 0; i < 100; ++i) {
    CHECK(client.call(0, CMD_READ, 4096, 4096).error == 0);
    for (RawClient& other : others) CHECK(other.call(0, CMD_READ, 4096, 4096).error == 0);
  }
  disk.device->hold_extents(false);
  for (uint64_t cookie = 1; cookie <= 3; ++cookie) {
    CHECK(client.receive_reply().cookie == cookie);
    CHECK(client.receive_reply().payload.substr(4) == u32(4096) + u32(1));
  }
}

TEST_CASE("A client may vanish, and a server end, while extents take their time") {
  ServedDisk disk;
  disk.device->set_extents("base:allocation", {{1 << 20, 0}});
  disk.serve();
  {
    RawClient client = disk.go(true, {"base:allocation"});
    disk.device->hold_extents(true);
    client.send(request(0, CMD_BLOCK_STATUS, 1, 0, 4096));
    while (disk.device->extent_query_count() == 0) std::this_thread::yield();
  }
  std::thread ending([&] { disk.server->stop(); });
  disk.device->hold_extents(false);
  ending.join();
}

TEST_CASE("Writes of any size arrive whole however the bytes are cut") {
  ServedDisk disk;
  disk.serve();
  std::mt19937_64 random(42);
  std::string model(kEnd, '\0');
  RawClient client = disk.go();
  const std::vector<uint64_t> sizes = {1, 512, 4096, 65535, 65536, 65537, 70000, 300000, 600000};
  for (int round = 0; round < 60; ++round) {
    std::string stream;
    uint64_t count = 0;
    for (uint64_t at = 0; at < kEnd && count < 24; ++count) {
      const uint64_t wanted = random() % 2 == 0 ? sizes[random() % sizes.size()] : random() % 9000;
      const uint64_t length = std::min(wanted + 1, kEnd - at);
      const std::string data = random_bytes(random, length);
      stream += request(0, CMD_WRITE, count, at, static_cast<uint32_t>(length), data);
      model.replace(at, length, data);
      at += length;
    }
    std::thread sender([&] {
      std::string_view rest = stream;
      while (!rest.empty()) {
        const size_t part = std::min<size_t>(rest.size(), 1 + random() % 200000);
        client.send(rest.substr(0, part));
        rest.remove_prefix(part);
      }
    });
    for (uint64_t i = 0; i < count; ++i) CHECK(client.receive_reply().error == 0);
    sender.join();
    REQUIRE(disk.device->content(0, kEnd) == model);
    const uint64_t at = random() % kEnd;
    const uint64_t length = std::min<uint64_t>(random() % 400000, kEnd - at);
    REQUIRE(client.call(0, CMD_READ, at, static_cast<uint32_t>(length)).payload ==
            model.substr(at, length));
  }
}

TEST_CASE("Payloads that are being written keep their bytes while more is received") {
  ServedDisk disk;
  disk.serve();
  RawClient client = disk.go();
  std::mt19937_64 random(3);
  disk.device->hold(true);
  std::string model;
  for (uint64_t i = 0; i < 200; ++i) {
    const std::string data = random_bytes(random, 4096 + i % 7);
    client.send(request(0, CMD_WRITE, i, model.size(), static_cast<uint32_t>(data.size()), data));
    model += data;
  }
  disk.device->wait_for_held(200);
  std::thread other([&] { disk.device->release_all(); });
  for (int i = 0; i < 200; ++i) CHECK(client.receive_reply().error == 0);
  other.join();
  CHECK(disk.device->content(0, model.size()) == model);
}

// nbd CVE-2011-1925, CVE-2005-3534
TEST_CASE("A payload longer than 32 MiB is dropped, not stored, and the next request is served") {
  ServedDisk disk;
  disk.serve();
  RawClient client = disk.go();
  const uint32_t length = (64 << 20) + 5;
  client.send(request(0, CMD_WRITE, 9, 0, length));
  const std::string part(1 << 20, 'x');
  for (int i = 0; i < 64; ++i) client.send(part);
  client.send("xxxxx" + request(0, CMD_FLUSH, 10, 0, 0));
  CHECK(client.receive_reply().error == EINVAL_WIRE);
  CHECK(client.receive_reply().cookie == 10);
}

TEST_CASE("A client that reads no replies is read no further; later it gets them all") {
  ServedDisk disk;
  disk.parameters.thread_count = 1;
  disk.serve();
  RawClient client = disk.go();
  constexpr int kCount = 400;
  std::string requests;
  for (uint64_t i = 0; i < kCount; ++i) requests += request(0, CMD_READ, i, 0, kEnd);
  client.send(requests);
  check_alive(disk);  // on the same I/O thread: it has gone as far as it can
  // What the socket's buffer takes, and one reply; far from what memory is allowed.
  CHECK(disk.device->take_seen().size() < 20);
  for (int i = 0; i < kCount; ++i) {
    REQUIRE(client.receive_reply(kEnd).payload.size() == kEnd);
  }
}

TEST_CASE("Requests in flight are bounded in number and in bytes") {
  ServedDisk disk;
  disk.serve();
  for (const bool reads : {false, true}) {
    RawClient client = disk.go();
    disk.device->hold(true);
    const int count = reads ? 300 : 3000;
    std::string requests;  // sent at once: the socket counts small packets as large ones
    for (int i = 0; i < count; ++i) {
      requests += reads ? request(0, CMD_READ, 5, 0, kEnd) : request(0, CMD_FLUSH, 5, 0, 0);
    }
    client.send(requests);
    disk.device->wait_for_held(reads ? 60 : 1024);
    RawClient second = disk.connect();
    second.go();
    CHECK(disk.device->held_count() <= (reads ? 64 : 1024));
    std::thread other([&] { disk.device->release_all(); });
    for (int i = 0; i < count; ++i) {
      REQUIRE(client.receive_reply(reads ? kEnd : 0).error == 0);
    }
    other.join();
  }
}

// qemu CVE-2017-10664; libnbd errors-multiple-disconnects
TEST_CASE("Clients may vanish with requests in flight") {
  ServedDisk disk;
  disk.serve();
  std::mt19937_64 random(11);
  for (int round = 0; round < 50; ++round) {
    disk.device->hold(true);
    {
      RawClient client = disk.go(round % 2 == 0);
      std::string requests;
      for (uint64_t i = 0; i < 16; ++i) {
        requests += request(0, CMD_READ, i, 0, 4096) + request(0, CMD_FLUSH, i, 0, 0) +
                    request(0, CMD_WRITE, i, 0, 8, "vanished");
      }
      client.send(requests + std::string(random() % 40, 'x'));
      disk.device->wait_for_held(48);
    }
    std::thread other([&] { disk.device->release_all(); });
    other.join();
  }
  check_alive(disk);
}

TEST_CASE("Random requests of eight clients never harm the server") {
  ServedDisk disk;
  disk.serve();
  const auto attack = [&](uint64_t first_seed) {
    for (uint64_t seed = first_seed; seed < first_seed + 1250; ++seed) {
      std::mt19937_64 random(seed);
      RawClient client = disk.go(seed % 2 == 0);
      std::string bytes;
      for (uint64_t i = 0; i < random() % 12; ++i) {
        const uint64_t offset = random() % 4 == 0 ? random() : random() % kEnd;
        const uint64_t length = random() % 8 == 0 ? random() : random() % 6000;
        const uint16_t flags = random() % 4 == 0 ? static_cast<uint16_t>(random()) : 0;
        bytes += request(flags, static_cast<uint16_t>(random() % 9), random(), offset,
                         static_cast<uint32_t>(length), random_bytes(random, random() % 6000));
      }
      client.send(bytes);
      if (seed % 3 == 0) client.end_sending();
    }
  };
  std::vector<std::thread> clients;
  for (uint64_t i = 0; i < 8; ++i) clients.emplace_back(attack, i * 1250);
  for (std::thread& client : clients) client.join();
  check_alive(disk);
}
