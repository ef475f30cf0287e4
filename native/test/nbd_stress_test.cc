// All at once: eight guests at a tracked disk, checkpoints that come and go, a disk
// that grows, exports that are removed, clients sent away, servers that stop and
// start. Every guest knows what its blocks may hold, a replica is kept from the
// captures alone, and at the end all must agree.
//
// TIDEMARK_STRESS_SECONDS: how long each case takes at least; TIDEMARK_SEED.
#include <deque>

#include "device/file_device.h"
#include "nbd_fixture.h"
#include "nbd_stress_guest.h"

using namespace nbd_test;
using namespace tidemark;
using namespace tidemark::tracking_test;

namespace {

constexpr uint64_t kFirstRows = 4;
constexpr uint64_t kMaximumRows = 16;

uint64_t number_from_environment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

std::shared_ptr<BlockDevice> open_file(ScratchDirectory& scratch, IoEngineKind engine,
                                       bool direct = false) {
  FileDeviceParameters parameters;
  parameters.path = scratch.make_file(kFirstRows * kRowBytes);
  parameters.engine = engine;
  parameters.direct = direct;
  auto device = open_file_device(parameters);
  REQUIRE_MESSAGE(device.is_ok(), device.status().message());
  return std::move(device).value();
}

using OpenBacking = std::shared_ptr<BlockDevice> (*)(ScratchDirectory&);

// A server with one tracked disk, and the threads that work on it.
class Stress {
 public:
  Stress(OpenBacking open_backing, bool with_tls, uint64_t seed)
      : seed_(seed), with_tls_(with_tls), disk_(make_disk(scratch_, open_backing(scratch_))) {
    parameters_.unix_path = scene_.socket_path = directory_.path() + "/nbd.sock";
    parameters_.thread_count = 3;
    parameters_.buffer_keep_time = std::chrono::milliseconds(1);
    parameters_.idle_limit = std::chrono::seconds(30);
    if (with_tls) {
      parameters_.tls = {server_identity_.certificate_pem,
                         server_identity_.key_pem,
                         authority_.certificate_pem,
                         {}};
      scene_.tls = &client_options_;
    }
    for (uint64_t i = 0; i < kGuests; ++i) guests_.emplace_back(scene_, i, seed);
    start();
  }

  void run(std::chrono::milliseconds at_least) {
    std::vector<std::thread> threads;
    for (StressGuest& guest : guests_) threads.emplace_back([&guest] { guest.run(); });
    threads.emplace_back([this] { take_checkpoints(); });
    threads.emplace_back([this] { grow(); });
    threads.emplace_back([this] { disturb(); });
    std::this_thread::sleep_for(at_least);
    wait_until([this] { return has_happened(); });
    scene_.is_ending = true;
    for (std::thread& thread : threads) thread.join();
    CHECK(server()->statistics().connections_open == 0);
    MESSAGE(scene_.replies.load(), " replies in ", scene_.sessions.load(), " sessions, ",
            cuts_.load(), " checkpoints, ", growths_.load(), " growths, ", stops_.load(),
            " servers stopped");
  }

  // After run(): the guests', the disk's and the replica's view of every block.
  void check() {
    while (!take_one()) continue;
    const Bytes content = content_of(*disk_.device);
    CHECK(content.size() == disk_.bitmap->disk_size_bytes());
    CHECK((replica_ == content));
    for (uint64_t block = 0; block * kBlock < content.size(); ++block) {
      const uint64_t owner = owner_of(block);
      const auto write = BlockContent::number_in(&content[block * kBlock], 0, block, owner);
      if (!write || !guests_[owner].may_hold(block, *write)) {
        scene_.fault("block " + std::to_string(block) + " does not hold what its guest wrote");
      }
    }
    for (const std::string& fault : scene_.faults) FAIL_CHECK(fault);
  }

 private:
  std::shared_ptr<NbdServer> server() {
    const std::lock_guard lock(mutex_);
    return server_;
  }
  void start() {
    std::shared_ptr<NbdServer> server = start_server(parameters_);
    REQUIRE(server->add_export(entry_).is_ok());
    const std::lock_guard lock(mutex_);
    server_ = std::move(server);
  }

  bool has_happened() const {
    return scene_.replies >= 500 && scene_.sessions >= 3 * kGuests && cuts_ >= 5 && growths_ >= 3 &&
           stops_ >= 2;
  }
  void expect(const Status& status, ErrorCode also) {
    if (!status.is_ok() && status.code() != also) scene_.fault(status.message());
  }

  // -- What is done to the server -----------------------------------------------
  void disturb() {
    std::mt19937_64 random(seed_ * 100 + 1);
    while (!scene_.is_ending) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5 + random() % 25));
      disturb_once(random() % 8);
    }
    server()->stop();
  }
  void disturb_once(uint64_t choice) {
    if (choice < 3) {
      expect(server()->remove_export("disk"), ErrorCode::kOk);
      expect(server()->add_export(entry_), ErrorCode::kOk);
    } else if (choice < 5) {
      expect(server()->reconnect_clients("disk"), ErrorCode::kOk);
    } else if (choice < 6 && with_tls_) {
      expect(server()->set_tls(*parameters_.tls), ErrorCode::kOk);
    } else {
      server()->stop();
      start();
      stops_.fetch_add(1);
    }
  }

  void grow() {
    std::mt19937_64 random(seed_ * 100 + 2);
    while (!scene_.is_ending) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5 + random() % 25));
      const uint64_t size_bytes = disk_.device->size_bytes();
      if (size_bytes >= kMaximumRows * kRowBytes) return;
      const Status status = disk_.device->resize(size_bytes + kRowBytes);
      if (status.code() != ErrorCode::kInUse) expect(status, ErrorCode::kTimedOut);
      if (!status.is_ok()) continue;
      growths_.fetch_add(1);
      // The export may be away, and so may be the server.
      if (random() % 2 == 0) expect(server()->reconnect_clients("disk"), ErrorCode::kNotFound);
    }
  }

  // -- The replica --------------------------------------------------------------
  void take_checkpoints() {
    while (!scene_.is_ending) {
      take_one();
      std::this_thread::sleep_for(std::chrono::microseconds(random_() % 4000));
    }
  }

  // False: it was not taken, or given up in the midst.
  bool take_one() {
    CaptureLimits limits;
    if (random_() % 2 == 0) limits = {16 * kBlock, scratch_.path() + "/spill", 1ULL << 30};
    const auto outcome = try_checkpoint(disk_.device, slot_, limits);
    if (!outcome.is_ok()) return expect(outcome.status(), ErrorCode::kTimedOut), false;
    Capture& capture = *outcome.value().captures.at(0);
    Bytes next = replica_;
    const bool is_whole = read_all(capture, next);
    capture.close();
    expect(is_whole ? disk_.device->commit(slot_) : disk_.device->give_back(slot_), ErrorCode::kOk);
    if (is_whole) replica_ = std::move(next);
    cuts_.fetch_add(1);
    return is_whole;
  }

  bool read_all(Capture& capture, Bytes& into) {
    into.resize(capture.disk_size_bytes());
    const bool is_given_up = !scene_.is_ending && random_() % 8 == 0;
    for (uint64_t from = 0;;) {
      const auto extent = capture.next_extent(from, kBlock * (1 + random_() % 32));
      if (!extent) return !is_given_up;
      from = extent->offset_bytes + extent->length_bytes;
      const auto piece = std::span(into).subspan(extent->offset_bytes, extent->length_bytes);
      expect(capture.read(extent->offset_bytes, piece), ErrorCode::kOk);
      for (uint64_t at = 0; at < piece.size(); at += kBlock) {
        const uint64_t block = (extent->offset_bytes + at) / kBlock;
        if (BlockContent::number_in(&piece[at], 0, block, owner_of(block))) continue;
        scene_.fault("block " + std::to_string(block) + " of a capture is torn or misplaced");
      }
      if (random_() % 4 != 0) capture.release(extent->offset_bytes, extent->length_bytes);
      if (is_given_up && random_() % 4 == 0) return false;
    }
  }

  const uint64_t seed_;
  const bool with_tls_;
  ScratchDirectory scratch_;
  const Disk disk_;
  const uint32_t slot_ = add_target(*disk_.device, Uuid::random());
  const NbdExport entry_{"disk", "a tracked disk", false, disk_.device};
  const Identity authority_ = make_authority();
  const Identity server_identity_ = make_identity({}, &authority_);
  const Identity client_identity_ = make_identity({"client", "DNS:vm1.example.com"}, &authority_);
  const TlsClientOptions client_options_{&client_identity_, &authority_, 0};
  TemporaryDirectory directory_;
  NbdServerParameters parameters_;
  StressScene scene_;
  std::deque<StressGuest> guests_;

  std::mutex mutex_;
  std::shared_ptr<NbdServer> server_;  // under mutex_

  // The checkpoints' thread's, then check()'s.
  std::mt19937_64 random_{seed_ * 100 + 3};
  Bytes replica_;
  std::atomic<uint64_t> cuts_{0};
  std::atomic<uint64_t> growths_{0};
  std::atomic<uint64_t> stops_{0};
};

void run(OpenBacking open_backing, bool with_tls = false) {
  const uint64_t seed = number_from_environment("TIDEMARK_SEED", 1);
  CAPTURE(seed);
  const uint64_t seconds = number_from_environment("TIDEMARK_STRESS_SECONDS", 0);
  Stress stress(open_backing, with_tls, seed);
  stress.run(std::chrono::milliseconds(seconds > 0 ? seconds * 1000 : 800));
  stress.check();
}

}  // namespace

TEST_CASE("eight guests, checkpoints, growth, exports that go and stops at once: direct I/O") {
  run([](ScratchDirectory& scratch) { return open_file(scratch, IoEngineKind::kAutomatic, true); });
}

TEST_CASE("eight guests, checkpoints, growth, exports that go and stops at once: threads") {
  run([](ScratchDirectory& scratch) { return open_file(scratch, IoEngineKind::kThreads); });
}

TEST_CASE("eight guests, checkpoints, growth, exports that go and stops at once: memory") {
  run([](ScratchDirectory&) -> std::shared_ptr<BlockDevice> {
    return make_memory_device(kFirstRows * kRowBytes);
  });
}

TEST_CASE("eight guests, checkpoints, growth, exports that go and stops at once: TLS") {
  run([](ScratchDirectory& scratch) { return open_file(scratch, IoEngineKind::kAutomatic); }, true);
}
