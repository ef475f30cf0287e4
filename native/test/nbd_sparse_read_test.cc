// Reads whose reply leaves holes out, as chunks on the wire.
#include <doctest/doctest.h>

#include <map>
#include <random>
#include <thread>

#include "device/memory_device.h"
#include "device/sync_io.h"
#include "nbd_fixture.h"

using namespace nbd_test;
using namespace tidemark;

namespace {

constexpr uint32_t kRead = 256 * 1024;

struct Assembled {
  std::string data;
  int data_chunks = 0;
  int hole_chunks = 0;
  uint32_t error = 0;
};

// Puts a read's chunks together as a client has to: each byte once, until DONE.
Assembled receive_read(RawClient& client, bool extended, uint64_t offset, uint64_t length) {
  Assembled read;
  read.data.assign(length, '?');
  std::string covered(length, '\0');
  const auto cover = [&](uint64_t at, const std::string& bytes) {
    REQUIRE(at >= offset);
    REQUIRE(at - offset + bytes.size() <= length);
    REQUIRE(covered.substr(at - offset, bytes.size()).find('\1') == std::string::npos);
    covered.replace(at - offset, bytes.size(), std::string(bytes.size(), '\1'));
    read.data.replace(at - offset, bytes.size(), bytes);
  };
  for (bool is_done = false; !is_done;) {
    const Reply chunk = extended ? client.receive_extended() : client.receive_reply();
    REQUIRE(chunk.is_structured);
    is_done = (chunk.flags & 1) != 0;
    if (chunk.type == 1) {
      ++read.data_chunks;
      cover(number(chunk.payload, 0, 8), chunk.payload.substr(8));
    } else if (chunk.type == 2) {
      ++read.hole_chunks;
      REQUIRE(chunk.payload.size() == 12);
      cover(number(chunk.payload, 0, 8), std::string(number(chunk.payload, 8, 4), '\0'));
    } else {
      read.error = chunk.error;
      CHECK(is_done);
    }
  }
  const bool is_covered = covered.find('\0') == std::string::npos;
  CHECK((is_covered || read.error != 0));
  return read;
}

Assembled read(RawClient& client, bool extended, uint16_t flags, uint64_t offset, uint32_t length) {
  client.send(extended ? extended_request(flags, CMD_READ, 7, offset, length)
                       : request(flags, CMD_READ, 7, offset, length));
  return receive_read(client, extended, offset, length);
}

RawClient go(const ServedDisk& disk, bool extended) {
  RawClient client = disk.connect();
  if (extended) {
    client.go_extended();
  } else {
    client.go({}, true);
  }
  return client;
}

// Data, hole, data, hole of 64 KiB each; 4 rows of them.
void make_striped(ServedDisk& disk) {
  disk.device->edit_traits().cheap_extents = true;
  std::vector<DeviceExtent> extents;
  for (int i = 0; i < 16; ++i) extents.push_back({65536, i % 2 == 0 ? 0U : 3U});
  disk.device->set_extents("base:allocation", extents);
}

void fill_stripes(RawClient& client) {
  for (uint64_t i = 0; i < 16; i += 2) {
    client.call(0, CMD_WRITE, i * 65536, 65536, std::string(65536, static_cast<char>('a' + i)));
  }
}

}  // namespace

TEST_CASE("A long read is answered in chunks of data and holes, one of them the last") {
  ServedDisk disk;
  make_striped(disk);
  disk.serve();
  RawClient writer = disk.go();
  fill_stripes(writer);
  for (const bool extended : {false, true}) {
    RawClient client = go(disk, extended);
    const Assembled all = read(client, extended, 0, 0, kRead);
    CHECK(all.data_chunks == 2);
    CHECK(all.hole_chunks == 2);
    CHECK((all.data == disk.device->content(0, kRead)));
    const Assembled whole = read(client, extended, FLAG_DF, 0, kRead);
    CHECK(whole.data_chunks == 1);
    CHECK(whole.hole_chunks == 0);
    CHECK((whole.data == all.data));
    const Assembled small = read(client, extended, 0, 0, 65535);
    CHECK(small.data_chunks == 1);
  }
  CHECK((writer.call(0, CMD_READ, 0, kRead).payload == disk.device->content(0, kRead)));
}

TEST_CASE("Parts complete in any order; a part's error is the read's, told last") {
  for (const bool extended : {false, true}) {
    ServedDisk disk;
    make_striped(disk);
    disk.serve();
    RawClient writer = disk.go();
    fill_stripes(writer);
    RawClient client = go(disk, extended);
    for (const size_t failing : {99, 0, 1}) {
      disk.device->hold(true);
      client.send(extended ? extended_request(0, CMD_READ, 7, 0, kRead)
                           : request(0, CMD_READ, 7, 0, kRead));
      disk.device->wait_for_held(2);
      std::thread other([&] {
        disk.device->fail_all(failing == 1 ? EIO : 0);
        disk.device->release(1);
        disk.device->fail_all(failing == 0 ? ENOSPC : 0);
        disk.device->release(0);
        disk.device->fail_all(0);
      });
      const Assembled all = receive_read(client, extended, 0, kRead);
      other.join();
      CHECK(all.error == (failing == 0 ? 28 : failing == 1 ? 5 : 0));
      if (all.error == 0) CHECK((all.data == disk.device->content(0, kRead)));
      disk.device->hold(false);
    }
    const NbdServerStatistics statistics = disk.server->statistics();
    CHECK(statistics.requests_total == 8 + 3);
    CHECK(statistics.errors_total == 2);
  }
}

TEST_CASE("A client may vanish with parts in flight") {
  ServedDisk disk;
  make_striped(disk);
  disk.serve();
  disk.device->hold(true);
  {
    RawClient client = go(disk, true);
    for (uint64_t i = 0; i < 8; ++i) client.send(extended_request(0, CMD_READ, i, 0, kRead));
    disk.device->wait_for_held(16);
  }
  std::thread other([&] { disk.device->release_all(); });
  other.join();
  check_alive(disk);
}

TEST_CASE("A device that cannot tell its extents, or tells nonsense, is simply read") {
  ServedDisk disk;
  make_striped(disk);
  disk.device->set_extents("base:allocation", {{4096, 3}});  // does not cover the read
  disk.serve();
  RawClient client = go(disk, false);
  client.call(0, CMD_WRITE, 0, 5, "bytes");
  CHECK(read(client, false, 0, 0, kRead).hole_chunks == 0);
  disk.device->fail_extents();
  CHECK((read(client, false, 0, 0, kRead).data == disk.device->content(0, kRead)));
}

// A hole must never hide what was written and answered before the read was sent.
TEST_CASE("Reads of a sparse disk are the model's bytes while it is written and trimmed") {
  constexpr uint64_t kSize = 8 << 20;
  ServedDisk disk;
  disk.serve("scripted");
  REQUIRE(disk.server->add_export({"", "", false, make_memory_device(kSize)}).is_ok());
  std::mt19937_64 random(5);
  for (const bool extended : {false, true}) {
    RawClient reader = go(disk, extended);
    RawClient writer = disk.go();
    std::string model(kSize, '\0');
    CHECK(writer.call(0, CMD_WRITE_ZEROES, 0, kSize).error == 0);
    int holes = 0;
    for (int i = 0; i < 400; ++i) {
      const uint64_t offset = random() % kSize;
      const auto length = static_cast<uint32_t>(std::min(random() % 200000 + 1, kSize - offset));
      if (random() % 3 > 0) {
        const std::string data(length, static_cast<char>(random() % 255 + 1));
        CHECK(writer.call(0, CMD_WRITE, offset, length, data).error == 0);
        model.replace(offset, length, data);
      } else {
        const uint64_t to = std::min<uint64_t>(kSize, offset + 4 * length);
        CHECK(writer.call(0, CMD_TRIM, offset, static_cast<uint32_t>(to - offset)).error == 0);
        model.replace(offset, to - offset, std::string(to - offset, '\0'));
      }
      const uint64_t from = random() % (kSize - kRead);
      const Assembled all = read(reader, extended, 0, from, kRead);
      holes += all.hole_chunks;
      REQUIRE((all.data == model.substr(from, kRead)));
    }
    CHECK(holes > 20);
  }
}

TEST_CASE("A disk without holes is asked for them ever less often") {
  ServedDisk disk;
  make_striped(disk);
  disk.device->set_extents("base:allocation", {{1 << 20, 0}});
  disk.serve();
  RawClient client = go(disk, false);
  for (int i = 0; i < 200; ++i) CHECK(read(client, false, 0, 0, kRead).data_chunks == 1);
  CHECK(disk.device->extent_query_count() < 15);
  disk.device->set_extents("base:allocation", {{1 << 20, 3}});
  int hole_chunks = 0;
  for (int i = 0; i < 40; ++i) hole_chunks += read(client, false, 0, 0, kRead).hole_chunks;
  CHECK(hole_chunks > 0);
}
