// The intent log in the way of a tracked disk's writes, and what is suspect after the
// end of a boot.
#include "power_loss_scene.h"

using namespace tidemark;
using namespace tidemark::power_loss;

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
  for (uint64_t seed = 0; seed < 100; ++seed) {
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
        for (uint64_t subset = 0; subset < 64; ++subset) {
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

TEST_CASE("what is made pending without a write is durable when that returns") {
  Scene scene = Scene::quiet();
  const ByteExtent extents[] = {{kRegion, kCoarse}, {5 * kRegion, 2 * kCoarse}};
  REQUIRE(scene.device->mark_pending(0, extents).is_ok());
  const Scene after = scene.after_power_loss();
  CHECK(after.suspect().empty());
  CHECK(after.bitmap->dirty_block_count(MapId::pending(0)) == 3);
}
