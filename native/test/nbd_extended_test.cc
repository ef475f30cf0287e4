// Extended headers, byte by byte as the specification's extension writes them.
#include <doctest/doctest.h>

#include <cerrno>
#include <thread>

#include "device/memory_device.h"
#include "nbd_fixture.h"

using namespace nbd_test;
using namespace tidemark;

namespace {

constexpr uint64_t kEnd = ServedDisk::kSizeBytes;
constexpr uint64_t kTiB = uint64_t{1} << 40;

RawClient go_extended(const ServedDisk& disk, std::initializer_list<std::string> contexts = {}) {
  RawClient client = disk.connect();
  client.go_extended({}, contexts);
  return client;
}

std::string filter(uint64_t length, std::initializer_list<uint64_t> ids) {
  std::string payload = u64(length);
  for (const uint64_t id : ids) payload += u32(id);
  return payload;
}

// The ids that the server gave to the contexts, in the order of its answers.
std::vector<uint64_t> set_contexts(RawClient& client, std::initializer_list<std::string> names) {
  std::vector<uint64_t> ids;
  for (const OptionAnswer& answer :
       client.ask_all(OPT_SET_META_CONTEXT, context_payload("", names))) {
    if (answer.type == REP_META_CONTEXT) ids.push_back(number(answer.payload, 0, 4));
  }
  return ids;
}

}  // namespace

TEST_CASE("EXTENDED_HEADERS takes no data, implies structured replies and forbids EXPORT_NAME") {
  ServedDisk disk;
  disk.serve();
  RawClient client = disk.connect();
  client.greet();
  CHECK(client.ask(OPT_EXTENDED_HEADERS, "x").type == REP_ERR_INVALID);
  CHECK(client.ask(OPT_SET_META_CONTEXT, context_payload("", {})).type == REP_ERR_INVALID);
  CHECK(client.ask(OPT_EXTENDED_HEADERS).type == REP_ACK);
  CHECK(client.ask(OPT_EXTENDED_HEADERS).type == REP_ACK);
  CHECK(client.ask(OPT_STRUCTURED_REPLY).type == REP_ERR_EXT_HEADER_REQD);
  CHECK(set_contexts(client, {"base:allocation"}).size() == 1);
  client.send(option(OPT_EXPORT_NAME));
  CHECK(client.is_ended());
  RawClient after = disk.connect();
  after.greet();
  CHECK(after.ask(OPT_STRUCTURED_REPLY).type == REP_ACK);
  CHECK(after.ask(OPT_EXTENDED_HEADERS).type == REP_ACK);
  CHECK((after.choose_and_go("", {}) & 128) != 0);
  CHECK(after.call_extended(0, CMD_FLUSH, 0, 0).error == 0);
}

TEST_CASE("The payload filter is advertised with extended headers and chosen contexts alone") {
  constexpr uint16_t kPayloadFilter = 1 << 12;
  ServedDisk disk;
  disk.serve();
  CHECK((disk.connect().go_extended("", {"base:allocation"}) & kPayloadFilter) != 0);
  CHECK((disk.connect().go_extended("", {}) & kPayloadFilter) == 0);
  CHECK((disk.connect().go("", true, {"base:allocation"}) & kPayloadFilter) == 0);
  RawClient client = disk.connect();
  client.greet();
  client.ask(OPT_EXTENDED_HEADERS);
  client.ask_all(OPT_SET_META_CONTEXT, context_payload("", {"base:allocation"}));
  const auto told = client.ask_all(OPT_INFO, info_payload(""));
  CHECK((number(told[0].payload, 10, 2) & kPayloadFilter) != 0);
}

TEST_CASE("Every command is answered in extended chunks, with the request's offset") {
  ServedDisk disk;
  disk.device->edit_traits().can_cache = true;
  disk.serve();
  RawClient client = go_extended(disk);
  const Reply written = client.call_extended(FLAG_PAYLOAD_LEN, CMD_WRITE, 100, 5, "hello");
  CHECK(written.type == 0);
  CHECK(written.flags == 1);
  CHECK(written.payload.empty());
  const Reply read = client.call_extended(0, CMD_READ, 99, 7);
  CHECK(read.type == 1);
  CHECK(read.flags == 1);
  CHECK(read.payload == u64(99) + "\0hello\0"s);
  CHECK(client.call_extended(FLAG_DF, CMD_READ, 100, 5).payload == u64(100) + "hello");
  CHECK(client.call_extended(0, CMD_READ, 7, 0).type == 0);
  for (const uint16_t command : {CMD_FLUSH, CMD_TRIM, CMD_WRITE_ZEROES, CMD_CACHE}) {
    const bool is_flush = command == CMD_FLUSH;
    const Reply done = client.call_extended(0, command, is_flush ? 0 : 4096, is_flush ? 0 : 4096);
    CHECK(done.type == 0);
    CHECK(done.flags == 1);
  }
  const Reply refused = client.call_extended(0, CMD_READ, kEnd, 1);
  CHECK(refused.type == 0x8001);
  CHECK(refused.error == 22);
  CHECK(client.call_extended(0, 77, 5, 5).error == 22);
  disk.device->fail_all(EIO);
  CHECK(client.call_extended(0, CMD_FLUSH, 0, 0).error == 5);
  CHECK(client.call_extended(0, CMD_READ, 0, 1).error == 5);
  disk.device->fail_all(0);
}

TEST_CASE("Large and small writes with extended headers arrive whole") {
  ServedDisk disk;
  disk.serve();
  RawClient client = go_extended(disk);
  for (const size_t length : {1, 4096, 65535, 65536, 65537, 300000, 1 << 20}) {
    const std::string data(length, static_cast<char>('a' + length % 26));
    CHECK(client.call_extended(FLAG_PAYLOAD_LEN, CMD_WRITE, kEnd - length, length, data).error ==
          0);
    CHECK(client.call_extended(0, CMD_READ, kEnd - length, length).payload ==
          u64(kEnd - length) + data);
  }
}

TEST_CASE("Lengths beyond 4 GiB reach the device, and are told of its extents") {
  ServedDisk disk;
  disk.serve("small");
  constexpr uint64_t kLarge = kTiB / 8;  // TSan has no room for much more
  const auto device = make_memory_device(kLarge);
  REQUIRE(device != nullptr);
  REQUIRE(disk.server->add_export({"", "", false, device}).is_ok());
  RawClient client = go_extended(disk, {"base:allocation"});
  const uint64_t last = kLarge - 4096;
  CHECK(
      client.call_extended(FLAG_PAYLOAD_LEN, CMD_WRITE, last, 4096, std::string(4096, 'x')).error ==
      0);
  const Reply map = client.call_extended(0, CMD_BLOCK_STATUS, 0, kLarge);
  CHECK(map.type == 6);
  CHECK(map.flags == 1);
  const uint64_t data_from = kLarge - 65536;  // the memory device's granularity
  CHECK(map.payload.substr(4) == u32(2) + u64(data_from) + u64(3) + u64(65536) + u64(0));
  const Reply one = client.call_extended(FLAG_REQ_ONE, CMD_BLOCK_STATUS, 4096, kLarge - 4096);
  CHECK(one.payload.substr(4) == u32(1) + u64(data_from - 4096) + u64(3));
  CHECK(client.call_extended(0, CMD_TRIM, 4096, kLarge - 4096).error == 0);
  CHECK(client.call_extended(0, CMD_READ, last, 4096).payload.substr(8) == std::string(4096, '\0'));
  CHECK(client.call_extended(0, CMD_WRITE_ZEROES, 1, kLarge - 1).error == 0);
  CHECK(client.call_extended(0, CMD_WRITE_ZEROES, 1, kLarge).error == 28);
  CHECK(client.call_extended(0, CMD_TRIM, 1, kLarge).error == 22);
  CHECK(client.call_extended(0, CMD_BLOCK_STATUS, 1, kLarge).error == 22);
  CHECK(client.call_extended(0, CMD_TRIM, 1, ~uint64_t{0}).error == 22);
  CHECK(client.call_extended(0, CMD_READ, 0, kLarge).error == 22);
  CHECK(client.call_extended(FLAG_DF, CMD_READ, 0, kLarge).error == 75);
  CHECK(client.call_extended(0, CMD_READ, 0, (uint64_t{1} << 32) + 512).error == 22);
}

TEST_CASE("The payload flag belongs to a write, and is a payload wherever it is set") {
  ServedDisk disk;
  disk.device->edit_traits().can_cache = true;
  disk.serve();
  RawClient client = go_extended(disk);
  CHECK(client.call_extended(0, CMD_WRITE, 0, 512).error == 22);  // so nothing follows
  CHECK(client.call_extended(0, CMD_WRITE, 0, 0).error == 0);
  CHECK(client.call_extended(FLAG_PAYLOAD_LEN, CMD_WRITE, 0, 0).error == 0);
  for (const int command : {0, 3, 4, 5, 6, 7, 99}) {
    for (const size_t length : {1, 16, 70000}) {
      const std::string payload(length, 'p');
      CHECK(
          client.call_extended(FLAG_PAYLOAD_LEN, static_cast<uint16_t>(command), 0, length, payload)
              .error == 22);
    }
  }
  CHECK(client.call_extended(FLAG_PAYLOAD_LEN, CMD_WRITE, kEnd, 3, "end").error == 28);
  CHECK(disk.device->take_seen().empty());
  CHECK(client.call_extended(0, CMD_READ, 0, 512).error == 0);
  RawClient compact = disk.go(true);
  CHECK(compact.call(FLAG_PAYLOAD_LEN, CMD_WRITE, 0, 3, "xyz").error == 22);
  CHECK(compact.call(FLAG_PAYLOAD_LEN, CMD_TRIM, 0, 512).error == 22);
  CHECK(compact.call(0, CMD_READ, 0, 3).error == 0);
}

TEST_CASE("A payload over the maximum, a compact header and a structured one end the connection") {
  ServedDisk disk;
  disk.serve();
  for (const int command : {0, 1, 7, 99}) {
    for (const uint64_t length : {(uint64_t{32} << 20) + 1, uint64_t{1} << 32, ~uint64_t{0}}) {
      RawClient client = go_extended(disk);
      client.send(extended_request(FLAG_PAYLOAD_LEN, static_cast<uint16_t>(command), 1, 0, length));
      CHECK(client.is_ended());
    }
  }
  RawClient client = go_extended(disk);
  client.send(request(0, CMD_READ, 1, 0, 512) + u32(0));
  CHECK(client.is_ended());
  RawClient compact = disk.go(true);
  compact.send(extended_request(0, CMD_READ, 1, 0, 512));
  CHECK(compact.is_ended());
  RawClient leaving = go_extended(disk);
  leaving.send(extended_request(0, CMD_DISC, 1, 0, 0));
  CHECK(leaving.is_ended());
  check_alive(disk);
}

namespace {

// A connection with the contexts "a:a" and "c:c" of three; ids as the server gave them.
struct FilteredSession {
  FilteredSession() : client(serve()) {
    client.greet();
    client.ask(OPT_EXTENDED_HEADERS);
    ids = set_contexts(client, {"a:a", "c:c"});
    REQUIRE(ids.size() == 2);
    client.choose_and_go("", {});
  }
  RawClient serve() {
    disk.device->set_extents("a:a", {{4096, 1}, {1 << 20, 0}});
    disk.device->set_extents("b:b", {{8192, 2}, {1 << 20, 0}});
    disk.device->set_extents("c:c", {{1 << 20, 3}});
    return disk.serve().connect();
  }
  Reply ask(uint16_t flags, const std::string& payload) {
    return client.call_extended(static_cast<uint16_t>(flags | FLAG_PAYLOAD_LEN), CMD_BLOCK_STATUS,
                                0, payload.size(), payload);
  }

  ServedDisk disk;
  RawClient client;
  std::vector<uint64_t> ids;
};

}  // namespace

TEST_CASE("BLOCK_STATUS answers for all chosen contexts, or for those that its payload names") {
  FilteredSession session;
  const std::vector<uint64_t>& ids = session.ids;
  const Reply first = session.client.call_extended(0, CMD_BLOCK_STATUS, 0, 65536);
  CHECK(first.flags == 0);
  CHECK(first.payload == u32(ids[0]) + u32(2) + u64(4096) + u64(1) + u64(61440) + u64(0));
  const Reply second = session.client.receive_extended();
  CHECK(second.flags == 1);
  CHECK(second.cookie == first.cookie);
  CHECK(second.payload == u32(ids[1]) + u32(1) + u64(65536) + u64(3));
  for (const uint64_t id : ids) {
    const Reply only = session.ask(0, filter(8192, {id}));
    CHECK(only.flags == 1);
    CHECK(only.payload.substr(0, 4) == u32(id));
  }
  const Reply one = session.ask(FLAG_REQ_ONE, filter(8192, {ids[0]}));
  CHECK(one.payload == u32(ids[0]) + u32(1) + u64(4096) + u64(1));
  CHECK(session.ask(0, filter(8192, {ids[1], ids[0]})).payload.substr(0, 4) == u32(ids[1]));
  CHECK(session.client.receive_extended().payload.substr(0, 4) == u32(ids[0]));
}

TEST_CASE("A BLOCK_STATUS payload that is no choice of the contexts is EINVAL") {
  FilteredSession session;
  const uint64_t a = session.ids[0];
  const uint64_t c = session.ids[1];
  for (const std::string& payload :
       {filter(8192, {}), filter(0, {a}), filter(kEnd + 1, {a}), filter(~uint64_t{0}, {a}),
        filter(8192, {a, a}), filter(8192, {99}), filter(8192, {a, 99}), filter(8192, {a, c, a}),
        filter(8192, {a}) + "x", "short"s}) {
    CHECK(session.ask(0, payload).error == 22);
  }
  CHECK(session.ask(FLAG_DF, filter(8192, {a})).error == 22);
  CHECK(session.ask(0, filter(8192, {a})).error == 0);
}

TEST_CASE("Extended requests that come byte by byte are understood") {
  ServedDisk disk;
  disk.device->set_extents("a:a", {{1 << 20, 1}});
  disk.serve();
  RawClient client = disk.connect();
  client.greet();
  client.ask(OPT_EXTENDED_HEADERS);
  const auto ids = set_contexts(client, {"a:a"});
  client.choose_and_go("", {});
  const std::string payload = filter(4096, {ids.at(0)});
  const std::string script =
      extended_request(FLAG_PAYLOAD_LEN, CMD_WRITE, 1, 0, 5, "bytes") +
      extended_request(FLAG_PAYLOAD_LEN, CMD_BLOCK_STATUS, 2, 0, payload.size(), payload) +
      extended_request(FLAG_PAYLOAD_LEN, CMD_TRIM, 3, 0, 4, "skip") +
      extended_request(0, CMD_READ, 4, 0, 5);
  for (const char byte : script) REQUIRE(client.send(std::string(1, byte)));
  CHECK(client.receive_extended().cookie == 1);
  CHECK(client.receive_extended().type == 6);
  CHECK(client.receive_extended().error == 22);
  CHECK(client.receive_extended().payload == u64(0) + "bytes");
}

TEST_CASE("A removed export is answered ESHUTDOWN in extended chunks, payloads dropped") {
  ServedDisk disk;
  disk.parameters.thread_count = 1;
  disk.serve();
  RawClient client = go_extended(disk);
  RawClient idle = disk.go();
  disk.device->hold(true);
  std::string requests;
  for (uint64_t i = 0; i < 1024; ++i) requests += extended_request(0, CMD_FLUSH, i, 0, 0);
  requests += extended_request(FLAG_PAYLOAD_LEN, CMD_WRITE, 2000, 0, 3, "abc");
  requests += extended_request(FLAG_PAYLOAD_LEN, CMD_TRIM, 2001, 0, 3, "abc");
  client.send(requests);
  disk.device->wait_for_held(1024);
  std::thread remover([&] { CHECK(disk.server->remove_export("").is_ok()); });
  CHECK(idle.is_ended());
  disk.device->release_all();
  remover.join();
  // As soon as one has ended there is room for what waits: any order is right.
  for (int i = 0; i < 1026; ++i) {
    const Reply reply = client.receive_extended();
    CHECK(reply.error == (reply.cookie < 1024 ? 0 : reply.cookie == 2000 ? 108 : 22));
  }
  CHECK(client.is_ended());
}
