// NbdDevice before servers that are old, small, or lie: an error or the right
// bytes, never wrong ones.
#include <doctest/doctest.h>

#include <map>
#include <optional>

#include "device/nbd_device.h"
#include "device/nbd_uri.h"
#include "device_probe.h"
#include "nbd_scripted_server.h"

using namespace tidemark;
using namespace tidemark::device_contract;
using namespace nbd_test;

namespace {

using Settings = ScriptedServer::Settings;

std::shared_ptr<NbdDevice> open(const ScriptedServer& server) {
  NbdDeviceParameters parameters;
  parameters.unix_path = server.path();
  parameters.connection_count = 1;
  auto device = open_nbd_device(parameters);
  REQUIRE_MESSAGE(device.is_ok(), device.status().message());
  return device.value();
}

Status refusal_of(const Settings& settings, bool read_only = false) {
  const ScriptedServer server(settings, [](int, const WireRequest&) { return std::nullopt; });
  NbdDeviceParameters parameters;
  parameters.unix_path = server.path();
  parameters.read_only = read_only;
  parameters.connect_limit = std::chrono::milliseconds(2000);
  return open_nbd_device(parameters).status();
}

std::string pattern(uint64_t offset, uint32_t length) {
  std::string bytes(length, '\0');
  for (uint32_t i = 0; i < length; ++i) bytes[i] = static_cast<char>((offset + i) * 131 >> 3);
  return bytes;
}
std::string honest_read(const WireRequest& request) {
  return data_chunk(request.cookie, request.offset, pattern(request.offset, request.length), true);
}

struct ReadOutcome {
  int error;
  bool is_right;
  uint64_t loss_count;
};

// One read of [4096, 4096 + 8192). The first `lie_count` connections lie.
ReadOutcome read_through(int lie_count, const std::function<std::string(const WireRequest&)>& lie) {
  const ScriptedServer server({}, [&](int connection, const WireRequest& request) {
    return std::optional(connection < lie_count ? lie(request) : honest_read(request));
  });
  const auto device = open(server);
  Probe read(IoOp::kRead, 4096, 8192);
  const int error = read.run(*device);
  CHECK(read.fences_hold());
  const std::string expected = pattern(4096, 8192);
  return {error, std::memcmp(read.data(), expected.data(), expected.size()) == 0,
          device->loss_count()};
}

using Lie = std::function<std::string(const WireRequest&)>;

std::map<std::string, Lie> lies_of_range() {
  return {
      {"a wrong cookie",
       [](const WireRequest& r) {
         return data_chunk(r.cookie + 256, r.offset, std::string(r.length, 'x'), true);
       }},
      {"data before the range",
       [](const WireRequest& r) {
         return data_chunk(r.cookie, r.offset - 1, std::string(r.length, 'x'), true);
       }},
      {"data past the range",
       [](const WireRequest& r) {
         return data_chunk(r.cookie, r.offset, std::string(r.length + 1, 'x'), true);
       }},
      {"an offset that overflows",
       [](const WireRequest& r) {
         return data_chunk(r.cookie, UINT64_MAX - 4, std::string(r.length, 'x'), true);
       }},
      {"overlapping chunks",
       [](const WireRequest& r) {
         return data_chunk(r.cookie, r.offset, std::string(r.length, 'x'), false) +
                hole_chunk(r.cookie, r.offset + r.length - 1, 1, true);
       }},
      {"a hole past the range",
       [](const WireRequest& r) { return hole_chunk(r.cookie, r.offset, r.length + 1, true); }},
      {"a hole of no length",
       [](const WireRequest& r) { return hole_chunk(r.cookie, r.offset, 0, true); }},
  };
}

std::map<std::string, Lie> lies_of_form() {
  return {
      {"a chunk of no data",
       [](const WireRequest& r) { return data_chunk(r.cookie, r.offset, "", true); }},
      {"a simple reply where chunks were agreed on",
       [](const WireRequest& r) { return simple(r.cookie, 0, std::string(r.length, 'x')); }},
      {"a wrong magic", [](const WireRequest&) { return std::string(64, 'x'); }},
      {"an unknown chunk",
       [](const WireRequest& r) { return chunk(r.cookie, 77, true, "12345678"); }},
      {"block status for a read",
       [](const WireRequest& r) { return chunk(r.cookie, 5, true, u32(0) + u32(512) + u32(0)); }},
      {"an error text longer than its chunk",
       [](const WireRequest& r) { return chunk(r.cookie, 0x8001, true, u32(5) + u16(500) + "x"); }},
      {"a chunk that says 4 GiB",
       [](const WireRequest& r) {
         return u32(0x668e33ef) + u16(1) + u16(1) + u64(r.cookie) + u32(0xffffffff) +
                u64(r.offset) + std::string(9000, 'x');
       }},
  };
}

std::map<std::string, Lie> lies() {
  auto all = lies_of_range();
  all.merge(lies_of_form());
  return all;
}

}  // namespace

TEST_CASE("a server that breaks the protocol once is asked again") {
  for (const auto& [name, lie] : lies()) {
    CAPTURE(name);
    const ReadOutcome outcome = read_through(1, lie);
    CHECK(outcome.error == 0);
    CHECK(outcome.is_right);
    CHECK(outcome.loss_count == 1);
  }
}

TEST_CASE("a server that breaks the protocol for good gets the request an error") {
  for (const auto& [name, lie] : lies()) {
    CAPTURE(name);
    CHECK(read_through(1000, lie).error == EIO);
  }
}

TEST_CASE("a read whose chunks do not cover it is an error") {
  const std::map<std::string, Lie> gaps = {
      {"nothing", [](const WireRequest& r) { return chunk(r.cookie, 0, true, ""); }},
      {"a half",
       [](const WireRequest& r) {
         return data_chunk(r.cookie, r.offset, pattern(r.offset, r.length / 2), true);
       }},
      {"all but a byte within",
       [](const WireRequest& r) {
         return data_chunk(r.cookie, r.offset, pattern(r.offset, 100), false) +
                data_chunk(r.cookie, r.offset + 101, pattern(r.offset + 101, r.length - 101), true);
       }},
  };
  for (const auto& [name, gap] : gaps) {
    CAPTURE(name);
    const ReadOutcome outcome = read_through(1000, gap);
    CHECK(outcome.error == EIO);
    CHECK(outcome.loss_count == 0);
  }
}

TEST_CASE("chunks in any order and holes make up a read") {
  const ScriptedServer server({}, [](int, const WireRequest& r) {
    const uint32_t third = r.length / 3;
    return std::optional(
        data_chunk(r.cookie, r.offset + 2 * third, std::string(r.length - 2 * third, 'c'), false) +
        data_chunk(r.cookie, r.offset, std::string(third, 'a'), false) +
        hole_chunk(r.cookie, r.offset + third, third, false) + chunk(r.cookie, 0, true, ""));
  });
  const auto device = open(server);
  for (const uint32_t length : {3U * 512, 3U * 100'000}) {
    Probe read(IoOp::kRead, 0, length);
    CHECK(read.run(*device) == 0);
    const auto third = length / 3;
    CHECK(
        std::all_of(read.data(), read.data() + third, [](auto b) { return b == std::byte{'a'}; }));
    CHECK(is_zero(read.data() + third, third));
    CHECK(read.data()[2 * third] == std::byte{'c'});
    CHECK(read.fences_hold());
  }
}

TEST_CASE("an error after data is an error") {
  const ReadOutcome outcome = read_through(1000, [](const WireRequest& r) {
    return data_chunk(r.cookie, r.offset, pattern(r.offset, r.length), false) +
           error_chunk(r.cookie, 5, true);
  });
  CHECK(outcome.error == EIO);
  CHECK(outcome.loss_count == 0);
}

TEST_CASE("the server's errors come through, and unknown ones as EIO") {
  const std::map<uint32_t, int> errors = {{1, EPERM},    {5, EIO},     {12, ENOMEM},
                                          {22, EINVAL},  {28, ENOSPC}, {75, EOVERFLOW},
                                          {95, ENOTSUP}, {4711, EIO},  {0xffffffff, EIO}};
  for (const auto& [wire, expected] : errors) {
    const ScriptedServer server({}, [wire = wire](int, const WireRequest& r) {
      const bool is_read = r.command == CMD_READ;
      return std::optional(is_read ? error_chunk(r.cookie, wire, true) : simple(r.cookie, wire));
    });
    const auto device = open(server);
    CHECK(Probe(IoOp::kRead, 0, 512).run(*device) == expected);
    CHECK(Probe(IoOp::kWrite, 0, 512).run(*device) == expected);
  }
}

TEST_CASE("an answer of ESHUTDOWN is a lost server, not an error") {
  const ScriptedServer server({}, [](int connection, const WireRequest& r) {
    return std::optional(connection == 0 ? error_chunk(r.cookie, 108, true) : honest_read(r));
  });
  const auto device = open(server);
  CHECK(Probe(IoOp::kRead, 0, 512).run(*device) == 0);
  CHECK(device->loss_count() == 1);
}

TEST_CASE("without FUA a write is flushed before it is answered") {
  std::mutex mutex;
  std::string order;
  Settings settings;
  settings.flags = HAS_FLAGS | SEND_FLUSH;
  const ScriptedServer server(settings, [&](int, const WireRequest& r) {
    const std::lock_guard lock(mutex);
    order += r.command == CMD_FLUSH ? "f" : r.flags == 0 ? "w" : "?";
    return std::optional(simple(r.cookie));
  });
  const auto device = open(server);
  CHECK(Probe(IoOp::kWrite, 0, 512, kIoFua).run(*device) == 0);
  CHECK(Probe(IoOp::kWriteZeroes, 0, 512, kIoFua).run(*device) == 0);
  const std::lock_guard lock(mutex);
  CHECK(order == "wfwf");
}

TEST_CASE("a server without flush makes a device without, and nothing is durable") {
  Settings settings;
  settings.flags = HAS_FLAGS;
  const ScriptedServer server(
      settings, [](int, const WireRequest& r) { return std::optional(simple(r.cookie)); });
  const auto device = open(server);
  CHECK_FALSE(device->traits().can_flush);
  CHECK_FALSE(device->traits().fast_zero);
  CHECK(Probe(IoOp::kWrite, 0, 512).run(*device) == 0);
  CHECK(Probe(IoOp::kWrite, 0, 512, kIoFua).run(*device) == ENOTSUP);
  CHECK(Probe(IoOp::kFlush, 0, 0).run(*device) == ENOTSUP);
  CHECK(Probe(IoOp::kWriteZeroes, 0, 512, kIoFastZero).run(*device) == ENOTSUP);
  CHECK(Probe(IoOp::kTrim, 0, 512).run(*device) == 0);
}

TEST_CASE("requests are cut at the server's maximum, and keep to its minimum") {
  std::mutex mutex;
  std::map<uint64_t, uint32_t> seen;
  Settings settings;
  settings.minimum = 512;
  settings.maximum = 64 * 1024;
  settings.structured = false;
  const ScriptedServer server(settings, [&](int, const WireRequest& r) {
    const std::lock_guard lock(mutex);
    seen[r.offset] = r.length;
    const bool is_read = r.command == CMD_READ;
    return std::optional(simple(r.cookie, 0, is_read ? pattern(r.offset, r.length) : ""));
  });
  const auto device = open(server);
  CHECK(device->traits().minimum_block_bytes == 512);
  CHECK(Probe(IoOp::kRead, 1, 511).run(*device) == EINVAL);
  for (const IoOp op : {IoOp::kRead, IoOp::kWrite}) {
    seen.clear();
    Probe probe(op, 512, 200 * 1024);
    CHECK(probe.run(*device) == 0);
    CHECK(seen == std::map<uint64_t, uint32_t>{
                      {512, 65536}, {66048, 65536}, {131584, 65536}, {197120, 8192}});
    if (op != IoOp::kRead) continue;
    const std::string expected = pattern(512, 200 * 1024);
    CHECK(std::memcmp(probe.data(), expected.data(), expected.size()) == 0);
  }
}

TEST_CASE("a handshake that makes no sense is refused, and says why") {
  Settings unknown;
  unknown.go_error = REP_ERR_UNKNOWN;
  CHECK(refusal_of(unknown).code() == ErrorCode::kNotFound);
  Settings tls;
  tls.go_error = 0x80000005;
  CHECK(refusal_of(tls).code() == ErrorCode::kUnsupported);
  Settings no_nbd;
  no_nbd.greeting = "SSH-2.0-OpenSSH_9.2p1 Debian";
  CHECK(refusal_of(no_nbd).message().find("no NBD server") != std::string::npos);
  Settings old_style;
  old_style.greeting = "NBDMAGICIHAVEOPT" + u16(0);
  CHECK(refusal_of(old_style).code() == ErrorCode::kUnsupported);
  Settings huge;
  huge.size = uint64_t{1} << 63;
  CHECK(refusal_of(huge).code() == ErrorCode::kIo);
  Settings odd;
  odd.minimum = 3000;
  CHECK(refusal_of(odd).code() == ErrorCode::kIo);
  Settings read_only;
  read_only.flags = HAS_FLAGS | READ_ONLY;
  CHECK(refusal_of(read_only).code() == ErrorCode::kReadOnly);
  CHECK(refusal_of(read_only, true).is_ok());
  Settings silent;
  silent.greeting = "NBDMAGIC";
  CHECK(refusal_of(silent).code() == ErrorCode::kTimedOut);
}

TEST_CASE("NBD URIs are read as users write them") {
  const auto parsed = [](const char* text) {
    auto parameters = parse_nbd_uri(text);
    REQUIRE_MESSAGE(parameters.is_ok(), parameters.status().message());
    return parameters.value();
  };
  CHECK(parsed("nbd://host").port == 10809);
  CHECK(parsed("nbd://host").export_name == "");
  CHECK(parsed("nbd://host:1234/a%20b/c%C3%A4").export_name == "a b/c\xC3\xA4");
  CHECK(parsed("nbd://[::1]:99/x").host == "::1");
  CHECK(parsed("nbd+unix:///x?socket=/run/a%20b.sock").unix_path == "/run/a b.sock");
  for (const char* text : {"nbd+unix:///a%20b?socket=/s%25.sock", "nbd://[::1]:99/x%3Fy"}) {
    CHECK(nbd_uri_of(parsed(text)) == text);
  }
}

TEST_CASE("what is no NBD URI is refused with the reason") {
  const std::map<std::string, std::string> refusals = {
      {"http://host/", "does not begin"},
      {"nbd://", "host or port"},
      {"nbd://host:0/", "host or port"},
      {"nbd://host:65536/", "host or port"},
      {"nbd://::1/", "host or port"},
      {"nbd://user@host/", "host or port"},
      {"nbd://host/?socket=/x", "no ?options"},
      {"nbd://host/%zz", "percent-encoded"},
      {"nbd://host/%00", "percent-encoded"},
      {"nbd://host/x#y", "fragment"},
      {"nbd+unix:///x", "?socket=PATH"},
      {"nbd+unix:///x?socket=", "empty"},
      {"nbd+unix://host/x?socket=/y", "has no host"},
      {"nbd+unix:///x?socket=/" + std::string(107, 'p'), "at most 107"},
      {"nbds://host/x", "TLS"},
  };
  for (const auto& [text, reason] : refusals) {
    const Status status = parse_nbd_uri(text).status();
    CHECK_MESSAGE(status.message().find(reason) != std::string::npos,
                  text << " -> " << status.message());
  }
}
