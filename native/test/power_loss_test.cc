// The intent log in the way of a tracked disk's writes, its quiet-down, and what is
// suspect after the end of a boot. The bitmap lies on the simulated storage, which
// loses what was not synced; no thread runs but the test's, which chooses the order.
#include <doctest/doctest.h>

#include <cerrno>
#include <map>

#include "device/fault_device.h"
#include "simulated_storage.h"
#include "tracking/tracked_device_impl.h"
#include "tracking_support.h"

using namespace tidemark;
using namespace tidemark::tracking_test;
using tidemark::simulation::Loss;
using tidemark::simulation::Random;
using tidemark::simulation::SimulatedStorage;
using tidemark::simulation::StepVerdict;
using tidemark::simulation::StorageOp;
using tidemark::simulation::StorageStep;

namespace {

constexpr uint64_t kRegion = 64ULL << 20;
constexpr uint64_t kRegionCount = 8;
constexpr uint64_t kDiskBytes = kRegionCount * kRegion;
constexpr uint32_t kCoarse = 1U << 20;  // granularity: 64 blocks a region
const Uuid kDisk = *Uuid::parse("6f1d0c1e-3c5b-4f0a-9a52-0f6a5b1c2d3e");
const Uuid kReplica = *Uuid::parse("a0000000-0000-4000-8000-000000000001");
const char* const kPath = "disk.tidemark";

// Answers at once and keeps nothing; holds, fails and counts as told.
class BackingDevice final : public BlockDevice {
 public:
  using OnRequest = std::function<int(const IoRequest&)>;

  explicit BackingDevice(uint64_t size_bytes) : size_bytes_(size_bytes) {
    traits_.trim_reads_zero = true;
  }
  uint64_t size_bytes() const noexcept override { return size_bytes_; }
  const DeviceTraits& traits() const noexcept override { return traits_; }
  uint64_t loss_count() const noexcept override { return losses; }
  Status resize(uint64_t size_bytes) override {
    size_bytes_ = size_bytes;
    return Status::ok();
  }
  void submit(IoRequest& request) noexcept override {
    if (request.op == IoOp::kFlush) ++flush_count;
    if (request.is_write_class()) ++write_count;
    request.complete(on_request ? on_request(request) : 0);
  }

  OnRequest on_request;
  uint64_t losses = 0;
  int flush_count = 0;
  int write_count = 0;
  DeviceTraits traits_;

 private:
  uint64_t size_bytes_;
};

struct Scene {
  explicit Scene(Durability durability = Durability::kPowerSafe)
      : Scene(std::make_unique<SimulatedStorage>(), durability, true) {}
  Scene(std::unique_ptr<SimulatedStorage> from, Durability durability, bool is_new,
        uint64_t disk_bytes = kDiskBytes)
      : storage(std::move(from)), backing(std::make_shared<BackingDevice>(disk_bytes)) {
    auto made = is_new
                    ? DirtyBitmap::create(kPath, {kDisk, disk_bytes, kCoarse, durability}, *storage)
                    : DirtyBitmap::open(kPath, kDisk, disk_bytes, *storage, durability);
    REQUIRE_MESSAGE(made.is_ok(), made.status().message());
    bitmap = std::move(made).value();
    device = std::make_unique<TrackedDevice>(backing, bitmap, std::chrono::milliseconds(0));
    if (is_new) slot = add_target(*device, kReplica);
  }

  // The disk after a clean close and another open: nothing is marked.
  static Scene quiet(Durability durability = Durability::kPowerSafe) {
    Scene scene(durability);
    return std::move(scene).reopened(durability);
  }
  Scene reopened(Durability durability = Durability::kPowerSafe) && {
    REQUIRE(device->settle().is_ok());
    REQUIRE(bitmap->close().is_ok());
    device.reset();
    bitmap.reset();
    auto after = storage->after_process_crash();
    return Scene(std::move(after), durability, false);
  }
  Scene after_power_loss(Loss loss = Loss::kAll, uint64_t seed = 1,
                         Durability durability = Durability::kPowerSafe) const {
    Random random(seed);
    return Scene(storage->after_power_loss(loss, random(), random), durability, false);
  }

  IntentLog& log() const { return bitmap->intents(); }
  QuietDown& quiet_down() const { return device->impl().quiet_down(); }

  // Through the log, waiting where it must.
  void write(uint64_t region, uint64_t offset_bytes = 0, uint64_t length_bytes = 4096) const {
    Request request(IoOp::kWrite, region * kRegion + offset_bytes, length_bytes, 1);
    request.submit(*device);
    if (!request.is_done()) log().work();
    CHECK(request.is_done());
  }
  int flush() const {
    Request request(IoOp::kFlush, 0, 0);
    return request.submit(*device).wait();
  }
  // Two rounds: the first begins to cool, the second ends it.
  void let_cool() const {
    quiet_down().run_round();
    quiet_down().run_round();
    log().work();
  }
  std::string marked() const {
    std::string text;
    for (const uint32_t region : log().marked()) text += std::to_string(region);
    return text;
  }
  // What a power loss now would leave of the page.
  std::string marked_on_disk() const {
    Random random(1);
    const auto lost = storage->after_power_loss(Loss::kAll, 0, random);
    auto file = lost->open(kPath);
    REQUIRE(file.is_ok());
    std::array<std::byte, kIntentPageBytes> bytes;
    REQUIRE(file.value()->read(kIntentPageOffsetBytes, bytes).is_ok());
    const auto page = IntentPage::decode(bytes, kDisk, RegionLayout::of(kDiskBytes));
    REQUIRE(page.is_ok());
    if (page.value().is_distrusted()) return "distrusted";
    if (!page.value().is_exact()) return "inexact";
    std::string text;
    for (uint32_t region = 0; region < kRegionCount; ++region) {
      if (page.value().is_marked(region)) text += std::to_string(region);
    }
    return text;
  }
  // Regions that are wholly suspect; "?" behind one of which a part is.
  std::string suspect() const {
    std::string text;
    const uint64_t blocks = kRegion / kCoarse;
    for (uint64_t region = 0; region < kRegionCount; ++region) {
      uint64_t count = 0;
      for (uint64_t i = 0; i < blocks; ++i) {
        count += bitmap->is_dirty(MapId::suspect(slot), region * blocks + i) ? 1 : 0;
      }
      if (count > 0) text += std::to_string(region);
      if (count > 0 && count < blocks) text += "?";
    }
    return text;
  }
  bool has_cause(SuspicionCause cause) const {
    return (bitmap->suspicion_causes(slot) & static_cast<SuspicionCauses>(cause)) != 0;
  }

  std::unique_ptr<SimulatedStorage> storage;
  std::shared_ptr<BackingDevice> backing;
  std::shared_ptr<DirtyBitmap> bitmap;
  std::unique_ptr<TrackedDevice> device;
  uint32_t slot = 0;
};

}  // namespace

TEST_CASE("T1: no write reaches the backing before its region's mark is on the disk") {
  Scene scene = Scene::quiet();
  int checked = 0;
  scene.backing->on_request = [&](const IoRequest& request) {
    if (!request.is_write_class()) return 0;
    const char region = static_cast<char>('0' + request.offset_bytes / kRegion);
    CHECK(scene.marked_on_disk().find(region) != std::string::npos);
    ++checked;
    return 0;
  };
  Request write(IoOp::kWrite, 3 * kRegion, kBlock, 1);
  write.submit(*scene.device);
  CHECK_FALSE(write.is_done());
  CHECK(scene.backing->write_count == 0);
  scene.log().work();
  CHECK(write.wait() == 0);
  for (const IoOp op : {IoOp::kTrim, IoOp::kWriteZeroes}) {
    Request request(op, (op == IoOp::kTrim ? 5 : 6) * kRegion, kBlock);
    request.submit(*scene.device);
    scene.log().work();
    CHECK(request.wait() == 0);
  }
  scene.write(3, 4 * kBlock);
  CHECK(checked == 4);
  CHECK(scene.marked() == "356");
  CHECK(scene.log().status().commit_count == 3);
}

TEST_CASE("T2: two writes to one region, the first parked before the sync: both wait for it") {
  Scene scene = Scene::quiet();
  Request first(IoOp::kWrite, kRegion, kBlock, 1);
  Request second(IoOp::kWrite, kRegion + 8 * kBlock, kBlock, 2);
  bool was_synced = false;
  scene.storage->on_step = [&](const StorageStep& step) {
    if (step.op == StorageOp::kSync && step.offset_bytes == kIntentPageOffsetBytes) {
      second.submit(*scene.device);  // the mark is written, and not synced
      CHECK_FALSE(second.is_done());
      CHECK(scene.backing->write_count == 0);
      was_synced = true;
      scene.storage->on_step = nullptr;
    }
    return StepVerdict::kWorks;
  };
  first.submit(*scene.device);
  scene.log().work();
  CHECK(was_synced);
  CHECK(first.is_done());
  scene.log().work();
  CHECK(second.wait() == 0);
  CHECK(scene.log().status().commit_count == 1);
}

TEST_CASE("writes that wait keep their order for a region and are answered once") {
  Scene scene = Scene::quiet();
  std::vector<uint64_t> order;
  scene.backing->on_request = [&](const IoRequest& request) {
    order.push_back(request.offset_bytes / kBlock % 100);
    return 0;
  };
  std::vector<std::unique_ptr<Request>> writes;
  for (uint64_t i = 0; i < 20; ++i) {
    writes.push_back(std::make_unique<Request>(IoOp::kWrite, i * kBlock, kBlock, 1));
    writes.back()->submit(*scene.device);
  }
  CHECK(order.empty());
  scene.log().work();
  for (uint64_t i = 0; i < 20; ++i) CHECK(order.at(i) == i);
  CHECK(order.size() == 20);
  CHECK(scene.log().status().commit_count == 1);
}

TEST_CASE("T5: a write that waited and fails stays marked, in the map and in the log") {
  Scene scene = Scene::quiet();
  scene.backing->on_request = [](const IoRequest&) { return EIO; };
  Request write(IoOp::kWrite, 2 * kRegion, kBlock, 1);
  write.submit(*scene.device);
  scene.log().work();
  CHECK(write.wait() == EIO);
  CHECK(scene.marked() == "2");
  CHECK(scene.bitmap->is_dirty(MapId::live(), 2 * kRegion / kCoarse));
}

TEST_CASE("a write that waits for its mark does not hold a checkpoint up") {
  Scene scene = Scene::quiet();
  Request write(IoOp::kWrite, 0, kBlock, 1);
  write.submit(*scene.device);
  CHECK(scene.device->impl().drain_once(std::chrono::milliseconds(0)));
  CHECK_FALSE(write.is_done());
  scene.log().work();
  CHECK(write.wait() == 0);
}

TEST_CASE("T3: after power loss exactly the marked regions are suspect, for every target") {
  Scene scene = Scene::quiet();
  const auto other = scene.device->add_target(Uuid::random(), TargetStart::kNothing);
  REQUIRE(other.is_ok());
  scene.write(1);
  scene.write(4, kRegion - kBlock, 2 * kBlock);  // and 5
  const Scene after = scene.after_power_loss();
  CHECK(after.suspect() == "145");
  CHECK(after.has_cause(SuspicionCause::kPowerLoss));
  CHECK(after.bitmap->is_dirty(MapId::suspect(other.value()), 1 * kRegion / kCoarse));
  CHECK_FALSE(after.bitmap->is_dirty(MapId::suspect(other.value()), 0));
  CHECK(after.bitmap->dirty_block_count(MapId::pending(scene.slot)) == 0);
  CHECK(after.marked() == "145");  // until they are flushed on this boot
}

TEST_CASE("T4: whatever a power loss leaves of the pages, a written region is suspect or marked") {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    Scene scene = Scene::quiet();
    std::map<uint64_t, bool> was_written;  // since it was last quiet
    for (int step = 0; step < 12; ++step) {
      const uint64_t region = random() % kRegionCount;
      if (random() % 4 == 0) {
        scene.quiet_down().run_round();
        for (auto& [index, is_written] : was_written) {
          is_written = scene.marked().find(static_cast<char>('0' + index)) != std::string::npos;
        }
        if (random() % 2 == 0) scene.log().work();
      } else {
        scene.write(region);
        was_written[region] = true;
      }
    }
    const Scene after = scene.after_power_loss(seed % 2 == 0 ? Loss::kTorn : Loss::kSubset, seed);
    for (const auto& [region, is_written] : was_written) {
      const uint64_t block = region * (kRegion / kCoarse);
      const bool is_suspect = after.bitmap->is_dirty(MapId::suspect(0), block);
      CHECK((is_suspect || !is_written));
      // Written and quiet again: the mark in the map is durable.
      CHECK((is_suspect || after.bitmap->is_dirty(MapId::pending(0), block)));
    }
  }
}

TEST_CASE("the end of the process alone makes nothing suspect, and the marks go on") {
  Scene scene = Scene::quiet();
  scene.write(2);
  scene.write(7);
  const Scene after(scene.storage->after_process_crash(), Durability::kPowerSafe, false);
  CHECK(after.suspect().empty());
  CHECK(after.marked() == "27");
  CHECK(after.bitmap->is_dirty(MapId::pending(0), 2 * kRegion / kCoarse));
  const Scene lost = after.after_power_loss();
  CHECK(lost.suspect() == "27");
}

TEST_CASE("a region without writes becomes quiet: flush, sync of its marks, then the clear") {
  Scene scene = Scene::quiet();
  scene.write(1);
  scene.write(6);
  std::string order;
  scene.backing->on_request = [&](const IoRequest& request) {
    if (request.op == IoOp::kFlush) order += "flush ";
    return 0;
  };
  scene.storage->on_step = [&](const StorageStep& step) {
    if (step.op == StorageOp::kSync) order += "sync ";
    if (step.op == StorageOp::kWrite) order += "clear ";
    return StepVerdict::kWorks;
  };
  scene.quiet_down().run_round();
  CHECK(scene.marked() == "16");
  CHECK(order.empty());
  scene.write(6);  // goes on at once, and keeps its mark
  scene.quiet_down().run_round();
  scene.log().work();
  CHECK(order == "flush sync sync clear ");  // both live maps
  CHECK(scene.marked() == "6");
  scene.storage->on_step = nullptr;
  const Scene after = scene.after_power_loss(Loss::kSubset, UINT64_MAX);
  CHECK(after.bitmap->is_dirty(MapId::pending(0), kRegion / kCoarse));
}

TEST_CASE("the mark of a quiet region is durable before the log's mark is taken back") {
  Scene scene = Scene::quiet();
  scene.write(1, 3 * kCoarse);
  scene.let_cool();
  CHECK(scene.marked().empty());
  const Scene after = scene.after_power_loss();
  CHECK(after.bitmap->is_dirty(MapId::pending(0), kRegion / kCoarse + 3));
}

TEST_CASE("a write in flight when a round begins is waited for before the flush") {
  ScratchDirectory scratch;
  auto step = std::make_shared<StepDevice>(std::make_shared<BackingDevice>(kDiskBytes));
  Disk disk = make_disk(scratch, step, kCoarse);
  REQUIRE(disk.device->settle().is_ok());
  disk.device.reset();
  TrackedDevice device(step, disk.bitmap, std::chrono::milliseconds(0));
  disk.bitmap->intents().start();
  Request first(IoOp::kWrite, 0, kBlock, 1);
  CHECK(first.submit(device).wait() == 0);
  QuietDown& quiet_down = device.impl().quiet_down();
  step->hold(IoOp::kWrite);
  Request write(IoOp::kWrite, kBlock, kBlock, 1);
  write.submit(device);
  quiet_down.run_round();  // cools a region that a write has passed already
  std::thread round([&] { quiet_down.run_round(); });
  const uint64_t flushes = step->count(IoOp::kFlush);
  for (int i = 0; i < 50; ++i) std::this_thread::sleep_for(std::chrono::microseconds(200));
  CHECK(step->count(IoOp::kFlush) == flushes);
  CHECK(disk.bitmap->intents().marked() == std::vector<uint32_t>{0});
  // Others go on: the round holds nobody up, and does not wait for them.
  step->hold([](const IoRequest& request) { return request.offset_bytes == kBlock; });
  Request other(IoOp::kWrite, 2 * kRegion, kBlock, 1);
  CHECK(other.submit(device).wait() == 0);
  step->release_all();
  CHECK(write.wait() == 0);
  round.join();
  CHECK(step->count(IoOp::kFlush) == flushes + 1);
  CHECK(disk.bitmap->intents().marked() == std::vector<uint32_t>{2});
}

TEST_CASE("a write during the flush, or during the sync of the maps, keeps the region marked") {
  for (const bool during_flush : {true, false}) {
    CAPTURE(during_flush);
    Scene scene = Scene::quiet();
    scene.write(1);
    scene.quiet_down().run_round();
    bool has_written = false;
    const auto write_once = [&] {
      if (std::exchange(has_written, true)) return;
      Request write(IoOp::kWrite, kRegion, kBlock, 1);
      write.submit(*scene.device);
      CHECK(write.is_done());
    };
    scene.backing->on_request = [&](const IoRequest& request) {
      if (during_flush && request.op == IoOp::kFlush) write_once();
      return 0;
    };
    scene.storage->on_step = [&](const StorageStep& step) {
      if (!during_flush && step.op == StorageOp::kSync) write_once();
      return StepVerdict::kWorks;
    };
    scene.quiet_down().run_round();
    scene.log().work();
    CHECK(has_written);
    CHECK(scene.marked() == "1");
    CHECK(scene.marked_on_disk() == "1");
  }
}

TEST_CASE("a backing without flush never goes quiet, not at the close either") {
  Scene scene = Scene::quiet();
  scene.backing->traits_.can_flush = false;
  scene.write(1);
  scene.let_cool();
  CHECK(scene.marked() == "1");
  CHECK(scene.device->settle().code() == ErrorCode::kUnsupported);
  REQUIRE(scene.bitmap->close().is_ok());
  const Scene after = scene.after_power_loss();
  CHECK(after.bitmap->opened_clean());
  CHECK(after.suspect() == "1");
}

TEST_CASE("after a clean close, nothing is suspect on any boot") {
  for (const Durability durability : {Durability::kPowerSafe, Durability::kProcessSafe}) {
    Scene scene = Scene::quiet(durability);
    scene.write(1);
    REQUIRE(scene.device->settle().is_ok());
    REQUIRE(scene.bitmap->close().is_ok());
    const Scene after = scene.after_power_loss();
    CHECK(after.suspect().empty());
    CHECK(after.bitmap->is_dirty(MapId::live(), kRegion / kCoarse));
  }
}

TEST_CASE("a failed flush, the guest's or ours, makes what is not quiet suspect") {
  for (const bool is_ours : {true, false}) {
    CAPTURE(is_ours);
    Scene scene = Scene::quiet();
    scene.write(0);
    scene.let_cool();
    scene.write(1);
    scene.write(2);
    bool fails = true;
    scene.backing->on_request = [&](const IoRequest& request) {
      return request.op == IoOp::kFlush && std::exchange(fails, false) ? EIO : 0;
    };
    scene.quiet_down().run_round();
    if (!is_ours) CHECK(scene.flush() == EIO);
    scene.quiet_down().run_round();
    CHECK(scene.suspect() == "12");
    CHECK(scene.has_cause(SuspicionCause::kLostWrites));
    CHECK(scene.marked() == "12");
    // The storage tells of it once: a guest that was not told is told by us.
    CHECK(scene.flush() == (is_ours ? EIO : 0));
    CHECK(scene.flush() == 0);
    CHECK_FALSE(scene.bitmap->intents().is_in_trouble());
  }
}

TEST_CASE("a durable write that fails counts as a failed flush") {
  Scene scene = Scene::quiet();
  scene.write(1);
  scene.quiet_down().run_round();
  scene.backing->on_request = [](const IoRequest& request) {
    return (request.flags & kIoFua) != 0 ? EIO : 0;
  };
  CHECK_FALSE(write_sync(*scene.device, kRegion, filled(kBlock, 1), kIoFua).is_ok());
  scene.quiet_down().run_round();
  scene.quiet_down().run_round();
  CHECK(scene.suspect() == "1");
}

TEST_CASE("a backing that lost touch with its data makes what is not quiet suspect") {
  for (const bool during_flush : {true, false}) {
    CAPTURE(during_flush);
    Scene scene = Scene::quiet();
    scene.write(0);
    scene.let_cool();
    scene.write(3);
    scene.quiet_down().run_round();
    if (!during_flush) ++scene.backing->losses;
    scene.backing->on_request = [&](const IoRequest& request) {
      if (during_flush && request.op == IoOp::kFlush) ++scene.backing->losses;
      return 0;
    };
    scene.quiet_down().run_round();
    CHECK(scene.suspect() == "3");
    CHECK(scene.marked() == "3");
    scene.backing->on_request = nullptr;
    scene.let_cool();
    CHECK(scene.marked().empty());
    CHECK(scene.suspect() == "3");
  }
}

TEST_CASE("T4: trouble with the log: the guest goes on, and all is suspect after the next start") {
  for (const bool same_boot : {true, false}) {
    Scene scene = Scene::quiet();
    scene.write(1);
    bool fails = true;
    scene.storage->on_step = [&](const StorageStep& step) {
      const bool is_log =
          step.op == StorageOp::kSync && step.offset_bytes == kIntentPageOffsetBytes;
      return is_log && std::exchange(fails, false) ? StepVerdict::kFails : StepVerdict::kWorks;
    };
    scene.write(2);
    CHECK(scene.device->intent_status().trouble.find("refuses") != std::string::npos);
    CHECK(scene.marked_on_disk() == "distrusted");
    scene.write(3);
    CHECK(scene.bitmap->close().code() == ErrorCode::kIo);
    scene.storage->on_step = nullptr;
    const Scene after =
        same_boot ? Scene(scene.storage->after_process_crash(), Durability::kPowerSafe, false)
                  : scene.after_power_loss();
    CHECK(after.suspect() == "01234567");
    CHECK(after.has_cause(SuspicionCause::kLogTrouble));
    CHECK(after.device->intent_status().trouble.empty());
    const Scene again(after.storage->after_process_crash(), Durability::kPowerSafe, false);
    CHECK(again.marked_on_disk() == "01234567");
  }
}

TEST_CASE("a map that was not synced is trouble as well") {
  Scene scene = Scene::quiet();
  scene.write(1);
  scene.bitmap->flip();
  bool fails = true;
  scene.storage->on_step = [&](const StorageStep& step) {
    return step.op == StorageOp::kSync && std::exchange(fails, false) ? StepVerdict::kFails
                                                                      : StepVerdict::kWorks;
  };
  CHECK_FALSE(scene.bitmap->merge_closed().is_ok());
  CHECK_FALSE(scene.device->intent_status().trouble.empty());
  CHECK(scene.marked_on_disk() == "distrusted");
}

TEST_CASE("T14: a damaged log makes all suspect on another boot, says so, and is mended") {
  Scene scene = Scene::quiet();
  scene.write(1);
  auto file_of = [](SimulatedStorage& storage) { return std::move(storage.open(kPath)).value(); };
  Random random(1);
  auto damaged = scene.storage->after_power_loss(Loss::kAll, 0, random);
  const std::byte garbage[8] = {std::byte{0x5a}};
  REQUIRE(file_of(*damaged)->write(kIntentPageOffsetBytes + 512 + 40, garbage).is_ok());
  const Scene after(std::move(damaged), Durability::kPowerSafe, false);
  CHECK(after.suspect() == "01234567");
  CHECK(after.has_cause(SuspicionCause::kLogTrouble));
  CHECK(after.device->intent_status().trouble.find("damaged") != std::string::npos);
  CHECK_FALSE(after.bitmap->intents().is_in_trouble());
  const Scene again(after.storage->after_process_crash(), Durability::kPowerSafe, false);
  CHECK(again.device->intent_status().trouble.empty());
}

TEST_CASE("process-safe: no write waits, and after power loss all is suspect") {
  Scene scene = Scene::quiet(Durability::kProcessSafe);
  scene.write(1);
  CHECK(scene.log().status().waiter_count == 0);
  CHECK(scene.marked_on_disk() == "inexact");
  const Scene after = scene.after_power_loss(Loss::kAll, 1, Durability::kProcessSafe);
  CHECK(after.suspect() == "01234567");
  CHECK(after.has_cause(SuspicionCause::kUncleanEnd));
}

TEST_CASE("from process-safe to power-safe: all is marked until it was flushed") {
  Scene before = Scene::quiet(Durability::kProcessSafe);
  before.write(1);
  const Scene scene(before.storage->after_process_crash(), Durability::kPowerSafe, false);
  CHECK(scene.suspect().empty());
  CHECK(scene.marked() == "01234567");
  CHECK(scene.marked_on_disk() == "01234567");
  scene.let_cool();
  CHECK(scene.marked().empty());
}

TEST_CASE("a new bitmap counts everything as marked until the backing was flushed") {
  Scene scene;
  CHECK(scene.marked() == "01234567");
  CHECK(scene.after_power_loss().suspect() == "01234567");
  scene.let_cool();
  CHECK(scene.marked().empty());
  CHECK(scene.marked_on_disk() == "inexact");  // the header is not synced yet
  scene.write(2);
  CHECK(scene.marked_on_disk() == "2");
}

TEST_CASE("growth: the larger file counts as marked, and whoever waits at the old log goes on") {
  Scene scene = Scene::quiet();
  scene.write(1);
  Request waiting(IoOp::kWrite, 5 * kRegion, kBlock, 1);
  waiting.submit(*scene.device);
  CHECK_FALSE(waiting.is_done());
  REQUIRE(scene.device->resize(kDiskBytes + kRegion).is_ok());
  CHECK(waiting.wait() == 0);
  CHECK(scene.marked() == "012345678");
  scene.write(8);
  CHECK(scene.log().status().waiter_count == 0);
  scene.let_cool();
  CHECK(scene.marked().empty());
  scene.write(4);
  Random random(1);
  const Scene after(scene.storage->after_power_loss(Loss::kAll, 0, random), Durability::kPowerSafe,
                    false, kDiskBytes + kRegion);
  CHECK(after.suspect() == "4");
}

TEST_CASE("growth under power loss: at any step all that was written is suspect or marked") {
  for (uint64_t crash_at = 0;; ++crash_at) {
    CAPTURE(crash_at);
    Scene scene = Scene::quiet();
    scene.write(1);
    std::unique_ptr<SimulatedStorage> crashed;
    uint64_t step_count = 0;
    scene.storage->on_step = [&](const StorageStep&) {
      if (step_count++ != crash_at) return StepVerdict::kWorks;
      Random random(crash_at);
      crashed = scene.storage->after_power_loss(Loss::kTorn, crash_at, random);
      return StepVerdict::kWorks;
    };
    REQUIRE(scene.device->resize(kDiskBytes + kRegion).is_ok());
    if (crashed == nullptr) break;
    const Scene after(std::move(crashed), Durability::kPowerSafe, false, kDiskBytes + kRegion);
    CHECK(after.suspect().find('1') != std::string::npos);
  }
}

TEST_CASE("growth whose new name is not durable: neither file is believed") {
  Scene scene = Scene::quiet();
  scene.write(1);
  int syncs = 0;
  scene.storage->on_step = [&](const StorageStep& step) {
    // The first one publishes the new file, the second makes the rename durable.
    const bool is_rename = step.op == StorageOp::kSyncDirectory && ++syncs == 2;
    return is_rename ? StepVerdict::kFails : StepVerdict::kWorks;
  };
  REQUIRE(scene.device->resize(kDiskBytes + kRegion).is_ok());
  scene.storage->on_step = nullptr;
  CHECK_FALSE(scene.device->intent_status().trouble.empty());
  for (const uint64_t subset : {0, 1}) {  // the old name, the new one
    Random random(1);
    const Scene after(scene.storage->after_power_loss(Loss::kSubset, subset, random),
                      Durability::kPowerSafe, false, kDiskBytes + kRegion);
    CHECK(after.suspect() == "01234567");
  }
}

TEST_CASE("from process-safe to power-safe under power loss: all is suspect at any step") {
  for (uint64_t crash_at = 0;; ++crash_at) {
    CAPTURE(crash_at);
    Scene before = Scene::quiet(Durability::kProcessSafe);
    before.write(1);
    auto storage = before.storage->after_process_crash();
    std::vector<std::unique_ptr<SimulatedStorage>> crashed;
    uint64_t step_count = 0;
    SimulatedStorage& stepped = *storage;
    storage->on_step = [&](const StorageStep&) {
      if (step_count++ == crash_at) {
        for (uint64_t subset = 0; subset < 16; ++subset) {
          Random random(subset);
          const Loss loss = subset < 8 ? Loss::kSubset : Loss::kTorn;
          crashed.push_back(stepped.after_power_loss(loss, subset, random));
        }
      }
      return StepVerdict::kWorks;
    };
    const Scene after(std::move(storage), Durability::kPowerSafe, false);
    if (crashed.empty()) break;
    for (auto& left : crashed) {
      CHECK(Scene(std::move(left), Durability::kPowerSafe, false).suspect() == "01234567");
    }
  }
}

TEST_CASE("a recovery that is cut by power loss is done again") {
  for (uint64_t crash_at = 0;; ++crash_at) {
    CAPTURE(crash_at);
    Scene before = Scene::quiet();
    before.write(1);
    before.write(6);
    Random random(crash_at);
    auto storage = before.storage->after_power_loss(Loss::kAll, 0, random);
    std::unique_ptr<SimulatedStorage> crashed;
    uint64_t step_count = 0;
    SimulatedStorage& stepped = *storage;
    storage->on_step = [&](const StorageStep&) {
      if (step_count++ == crash_at) {
        crashed = stepped.after_power_loss(Loss::kSubset, random(), random);
      }
      return StepVerdict::kWorks;
    };
    const Scene after(std::move(storage), Durability::kPowerSafe, false);
    CHECK(after.suspect() == "16");
    if (crashed == nullptr) break;
    CHECK(Scene(std::move(crashed), Durability::kPowerSafe, false).suspect() == "16");
  }
}

TEST_CASE("a guest's flush that runs beside the quiet-down's and fails counts") {
  Scene scene = Scene::quiet();
  scene.write(4);
  scene.quiet_down().run_round();
  int flush_count = 0;
  auto step = std::make_shared<StepDevice>(scene.backing);
  scene.device = nullptr;
  TrackedDevice device(step, scene.bitmap, std::chrono::milliseconds(0));
  step->hold([&](const IoRequest& request) {
    if (request.op != IoOp::kFlush) return false;
    return ++flush_count == 1;
  });
  Request flush(IoOp::kFlush, 0, 0);
  flush.submit(device);
  step->wait_for_held(1);
  std::thread round([&] { device.impl().quiet_down().run_round(); });
  wait_until([&] { return step->count(IoOp::kFlush) == 2; });
  for (int i = 0; i < 50; ++i) std::this_thread::sleep_for(std::chrono::microseconds(200));
  CHECK(scene.marked() == "4");
  step->let_go(EIO);
  CHECK(flush.wait() == EIO);
  round.join();
  CHECK(scene.marked() == "4");
  CHECK(scene.suspect() == "4");
}

TEST_CASE("what is made pending without a write is durable when that returns") {
  Scene scene = Scene::quiet();
  const ByteExtent extents[] = {{kRegion, kCoarse}, {5 * kRegion, 2 * kCoarse}};
  REQUIRE(scene.device->mark_pending(0, extents).is_ok());
  const Scene after = scene.after_power_loss();
  CHECK(after.suspect().empty());
  CHECK(after.bitmap->dirty_block_count(MapId::pending(0)) == 3);
}
