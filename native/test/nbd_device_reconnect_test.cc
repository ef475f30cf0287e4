// NbdDevice when its server goes: what was answered stays, what was not is done,
// and another disk is never written to.
#include <doctest/doctest.h>

#include <random>

#include "device/fault_device.h"
#include "device/nbd_unflushed_writes.h"
#include "device_probe.h"
#include "nbd_scripted_server.h"
#include "nbd_upstream.h"

using namespace tidemark;
using namespace tidemark::device_contract;
using namespace nbd_test;
using namespace std::chrono_literals;

namespace {

// A server whose disk loses on each crash what no FLUSH or FUA has made durable:
// all of it, the worst that a write-back cache can do.
class FickleServer {
 public:
  static constexpr uint64_t kSize = 1 << 20;

  explicit FickleServer(uint64_t crash_every, uint16_t flags = kFlags)
      : crash_every_(crash_every), cache_(kSize, '\0'), durable_(kSize, '\0') {
    ScriptedServer::Settings settings;
    settings.flags = flags;
    server_ = std::make_unique<ScriptedServer>(
        settings,
        [this](int connection, const WireRequest& request) { return answer(connection, request); });
  }

  NbdDeviceParameters parameters() const {
    NbdDeviceParameters parameters;
    parameters.unix_path = server_->path();
    return parameters;
  }
  int crash_count() const { return crash_count_; }
  void crash() {
    {
      const std::lock_guard lock(mutex_);
      lose_cache();
    }
    server_->hang_up();
  }
  std::string durable() {
    const std::lock_guard lock(mutex_);
    return durable_;
  }
  void end_crashes() { crash_every_ = 0; }
  int flush_count() const { return flush_count_; }

 private:
  static constexpr uint16_t kFlags =
      HAS_FLAGS | SEND_FLUSH | SEND_FUA | SEND_WRITE_ZEROES | SEND_FAST_ZERO | CAN_MULTI_CONN;

  // No connection of before speaks to what comes after.
  void lose_cache() {
    first_live_connection_ = server_->connection_count();
    cache_ = durable_;
    ++crash_count_;
  }

  std::optional<std::string> answer(int connection, const WireRequest& r) {
    {
      const std::lock_guard lock(mutex_);
      if (connection < first_live_connection_) return std::nullopt;
      // Some die before they do it, some after, and never is it answered.
      const uint64_t every = crash_every_;
      const bool dies = every != 0 && ++request_count_ % every == 0;
      if (!dies || request_count_ % 2 == 0) apply(r);
      if (!dies) return reply(r);
      lose_cache();
    }
    server_->hang_up();
    return std::nullopt;
  }
  void apply(const WireRequest& r) {
    if (r.command == CMD_WRITE) cache_.replace(r.offset, r.length, r.payload);
    if (r.command == CMD_WRITE_ZEROES) cache_.replace(r.offset, r.length, r.length, '\0');
    if (r.command == CMD_FLUSH) durable_ = cache_;
    if (r.command == CMD_FLUSH) ++flush_count_;
    if ((r.flags & FLAG_FUA) != 0) durable_.replace(r.offset, r.length, cache_, r.offset, r.length);
  }
  std::string reply(const WireRequest& r) const {
    if (r.command != CMD_READ) return simple(r.cookie);
    return data_chunk(r.cookie, r.offset, cache_.substr(r.offset, r.length), true);
  }

  std::mutex mutex_;
  std::atomic<uint64_t> crash_every_;
  uint64_t request_count_ = 0;
  std::string cache_, durable_;
  int first_live_connection_ = 0;
  std::atomic<int> crash_count_{0};
  std::atomic<int> flush_count_{0};
  std::unique_ptr<ScriptedServer> server_;
};

bool holds(const std::string& disk, const Bytes& model) {
  return std::memcmp(disk.data(), model.data(), model.size()) == 0;
}

// One guest on its own part of the disk, checked against a model of it.
class Guest {
 public:
  Guest(BlockDevice& device, uint64_t index, uint64_t count, uint64_t seed)
      : device_(device),
        begin_(index * (device.size_bytes() / count)),
        model_(device.size_bytes() / count),
        random_(seed * 100 + index) {}

  void run(int step_count) {
    for (int i = 0; i < step_count; ++i) step();
  }
  int fault_count() const { return fault_count_; }
  uint64_t begin() const { return begin_; }
  const Bytes& model() const { return model_; }

 private:
  void step() {
    const uint64_t offset = random_() % (model_.size() / 512) * 512;
    const uint64_t length = std::min((1 + random_() % 32) * 512, model_.size() - offset);
    const auto at = model_.begin() + static_cast<ptrdiff_t>(offset);
    const uint32_t flags = random_() % 4 == 0 ? kIoFua : 0;
    Bytes content(length);
    switch (random_() % 8) {
      case 0:
        fault_count_ += !flush_sync(device_).is_ok();
        break;
      case 1:
        std::fill_n(at, length, std::byte{0});
        fault_count_ += !write_zeroes_sync(device_, begin_ + offset, length, flags).is_ok();
        break;
      case 2:
        std::fill_n(at, length, std::byte{0});
        fault_count_ += !trim_sync(device_, begin_ + offset, length).is_ok();
        break;
      case 3:
      case 4:
        fault_count_ += !read_sync(device_, begin_ + offset, content).is_ok();
        fault_count_ += !std::equal(content.begin(), content.end(), at);
        break;
      default:
        content = random_bytes(random_, length);
        std::copy(content.begin(), content.end(), at);
        fault_count_ += !write_sync(device_, begin_ + offset, content, flags).is_ok();
    }
  }

  BlockDevice& device_;
  const uint64_t begin_;
  Bytes model_;
  std::mt19937_64 random_;
  int fault_count_ = 0;
};

void run_guests(std::vector<Guest>& guests, int step_count) {
  std::vector<std::thread> threads;
  for (Guest& guest : guests) threads.emplace_back([&, step_count] { guest.run(step_count); });
  for (std::thread& thread : threads) thread.join();
}

void check_guests(std::vector<Guest>& guests, BlockDevice& device, FickleServer& server) {
  for (Guest& guest : guests) {
    CHECK(guest.fault_count() == 0);
    Bytes seen(guest.model().size());
    REQUIRE(read_sync(device, guest.begin(), seen).is_ok());
    CHECK(seen == guest.model());
  }
  server.end_crashes();
  REQUIRE(flush_sync(device).is_ok());
  const std::string durable = server.durable();
  for (const Guest& guest : guests) CHECK(holds(durable.substr(guest.begin()), guest.model()));
}

}  // namespace

TEST_CASE("what a lost server had answered is there, and durable after the next flush") {
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    CAPTURE(seed);
    FickleServer server(70 + 13 * seed);
    NbdDeviceParameters parameters = server.parameters();
    parameters.connection_count = 1 + seed % 3;
    if (seed % 2 == 0) parameters.unflushed_limit_bytes = 100'000;
    const auto device = open_upstream(parameters);
    std::vector<Guest> guests;
    for (uint64_t i = 0; i < 4; ++i) guests.emplace_back(*device, i, 4, seed);
    run_guests(guests, 150);
    CHECK(server.crash_count() > 2);
    CHECK(device->loss_count() > 2);
    check_guests(guests, *device, server);
  }
}

TEST_CASE("an older write does not come back over a durable one") {
  FickleServer server(0);
  const auto device = open_upstream(server.parameters());
  const Bytes older(4096, std::byte{1}), newer(1024, std::byte{2});
  REQUIRE(write_sync(*device, 0, older).is_ok());
  REQUIRE(write_sync(*device, 512, newer, kIoFua).is_ok());
  server.crash();
  Bytes seen(4096);
  REQUIRE(read_sync(*device, 0, seen).is_ok());
  CHECK(seen[0] == std::byte{1});
  CHECK(seen[512] == std::byte{2});
  CHECK(seen[1536] == std::byte{1});
  CHECK(device->upstream_status().replayed_count == 2);
}

TEST_CASE("what a flush has covered is not kept any more") {
  FickleServer server(0);
  const auto device = open_upstream(server.parameters());
  REQUIRE(write_sync(*device, 0, Bytes(4096)).is_ok());
  REQUIRE(flush_sync(*device).is_ok());
  server.crash();
  REQUIRE(flush_sync(*device).is_ok());
  CHECK(device->upstream_status().replayed_count == 0);
}

TEST_CASE("past its room for unflushed writes it flushes by itself") {
  FickleServer server(0);
  NbdDeviceParameters parameters = server.parameters();
  parameters.unflushed_limit_bytes = 64 * 1024;
  const auto device = open_upstream(parameters);
  for (int i = 0; i < 64; ++i) REQUIRE(write_sync(*device, i * 4096, Bytes(4096)).is_ok());
  REQUIRE(write_sync(*device, 0, Bytes(512 * 1024)).is_ok());  // larger than all of it
  REQUIRE(write_sync(*device, 0, Bytes(512)).is_ok());
  CHECK(server.flush_count() >= 5);
  server.crash();
  REQUIRE(flush_sync(*device).is_ok());
  CHECK(device->upstream_status().replayed_count < 16);
}

TEST_CASE("an answered write that cannot be written again fails the next flush, once") {
  std::atomic<bool> is_full{false};
  const ScriptedServer server({}, [&](int, const WireRequest& r) {
    return std::optional(simple(r.cookie, is_full && r.command == CMD_WRITE ? 28 : 0));
  });
  NbdDeviceParameters parameters;
  parameters.unix_path = server.path();
  const auto device = open_upstream(parameters);
  REQUIRE(write_sync(*device, 0, Bytes(4096)).is_ok());
  is_full = true;
  const_cast<ScriptedServer&>(server).hang_up();
  CHECK(flush_sync(*device).sys_errno() == EIO);
  CHECK(flush_sync(*device).is_ok());
}

TEST_CASE("a server that is stopped and started under load costs no request") {
  const auto disk = make_memory_device(4 * kMiB);
  NbdUpstream upstream(disk);
  const auto device = open_upstream(upstream.parameters());
  std::vector<Guest> guests;
  for (uint64_t i = 0; i < 2; ++i) guests.emplace_back(*device, i, 2, 7);
  std::atomic<bool> is_over{false};
  std::thread chaos([&] {
    for (int i = 0; i < 20; ++i) {
      upstream.stop();
      upstream.start();
      std::this_thread::sleep_for(20ms);
    }
    is_over = true;
  });
  while (!is_over) run_guests(guests, 50);
  chaos.join();
  CHECK(device->loss_count() > 0);
  const Bytes content = read_all(*disk);
  for (Guest& guest : guests) {
    CHECK(guest.fault_count() == 0);
    CHECK(std::equal(guest.model().begin(), guest.model().end(),
                     content.begin() + static_cast<ptrdiff_t>(guest.begin())));
  }
}

TEST_CASE("another disk under the same name gets no request") {
  NbdUpstream upstream(make_memory_device(2 * kMiB));
  const auto device = open_upstream(upstream.parameters());
  REQUIRE(write_sync(*device, 0, Bytes(4096, std::byte{1})).is_ok());
  const auto smaller = make_memory_device(kMiB);
  const auto same_size = make_memory_device(2 * kMiB);
  struct Case {
    std::shared_ptr<BlockDevice> disk;
    bool read_only;
    const char* reason;
  };
  for (const Case& each : {Case{smaller, false, "smaller"}, Case{same_size, true, "read-only"}}) {
    upstream.stop();
    upstream.replace(each.disk, each.read_only);
    upstream.start();
    for (int i = 0;
         i < 500 && device->upstream_status().last_error.find(each.reason) == std::string::npos;
         ++i) {
      CHECK(write_sync(*device, 0, Bytes(4096, std::byte{2})).sys_errno() == EIO);
      std::this_thread::sleep_for(10ms);
    }
    CHECK(write_sync(*device, 0, Bytes(4096, std::byte{2})).sys_errno() == EIO);
    CHECK(read_sync(*device, 0, *std::make_unique<Bytes>(4096)).sys_errno() == EIO);
    CHECK(device->upstream_status().last_error.find(each.reason) != std::string::npos);
    CHECK(is_zero(read_all(*each.disk)));
  }
  // The right one is served again; what the first had answered is written to it.
  upstream.stop();
  upstream.replace(same_size);
  upstream.start();
  Bytes seen(4096);
  for (int i = 0; i < 500 && !read_sync(*device, 0, seen).is_ok(); ++i) {
    std::this_thread::sleep_for(10ms);
  }
  CHECK(seen == Bytes(4096, std::byte{1}));
}

TEST_CASE("a request waits for the server as long as it may, then fails") {
  NbdUpstream upstream(make_memory_device(kMiB));
  NbdDeviceParameters parameters = upstream.parameters();
  parameters.reconnect_limit = 100ms;
  const auto device = open_upstream(parameters);
  upstream.stop();
  CHECK(flush_sync(*device).sys_errno() == EIO);
  CHECK(write_sync(*device, 0, Bytes(512)).sys_errno() == EIO);
  CHECK_FALSE(device->upstream_status().is_connected);
  upstream.start();
  for (int i = 0; i < 500 && !flush_sync(*device).is_ok(); ++i) std::this_thread::sleep_for(10ms);
  CHECK(write_sync(*device, 0, Bytes(512)).is_ok());
}

TEST_CASE("a device that gives up ends what waits, and may go while its server is away") {
  NbdUpstream upstream(make_memory_device(kMiB));
  NbdDeviceParameters parameters = upstream.parameters();
  parameters.reconnect_limit = 0ms;
  auto device = open_upstream(parameters);
  upstream.stop();
  Probe write(IoOp::kWrite, 0, 4096);
  write.submit(*device);
  std::this_thread::sleep_for(50ms);
  device->give_up();
  CHECK(write.wait() == ESHUTDOWN);
  CHECK(flush_sync(*device).sys_errno() == ESHUTDOWN);
  device.reset();
  upstream.start();
  const auto idle = open_upstream(parameters);
  upstream.stop();
}

TEST_CASE("a device that gives up ends what a silent server holds up") {
  const ScriptedServer server({}, [](int, const WireRequest&) { return std::optional(""s); });
  NbdDeviceParameters parameters;
  parameters.unix_path = server.path();
  const auto device = open_upstream(parameters);
  Probe read(IoOp::kRead, 0, 4096);
  read.submit(*device);
  std::vector<DeviceExtent> extents;
  CHECK(device->query_extents("base:allocation", 0, kMiB, 8, extents).is_ok());
  device->give_up();
  CHECK(read.wait() == ESHUTDOWN);
}

TEST_CASE("writes that overlap are written again one after the other") {
  NbdUnflushedWrites unflushed;
  const auto add = [&](uint64_t offset, uint64_t length) {
    Bytes data(length);
    IoRequest request;
    request.op = IoOp::kWrite;
    request.offset_bytes = offset;
    request.length_bytes = length;
    request.data = data.data();
    unflushed.add(request);
  };
  for (const uint64_t offset : {0, 512, 1024, 256, 4096}) add(offset, 512);
  CHECK(unflushed.independent_count(0) == 3);
  CHECK(unflushed.independent_count(3) == 2);
  CHECK(unflushed.independent_count(5) == 0);
  const uint64_t kept_bytes = unflushed.kept_bytes();
  unflushed.drop_before(unflushed.next_number() - 1);
  CHECK(unflushed.count() == 1);
  CHECK(unflushed.entry(0).offset_bytes == 4096);
  CHECK(unflushed.kept_bytes() * 5 == kept_bytes);
}
