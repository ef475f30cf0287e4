// How regions become quiet, and what becomes of them when writes were lost.
#include "power_loss_scene.h"

using namespace tidemark;
using namespace tidemark::power_loss;

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

TEST_CASE("no region is quiet while a write to it is under way, with rounds every millisecond") {
  ScratchDirectory scratch;
  auto backing = std::make_shared<BackingDevice>(kDiskBytes);
  auto reordering = std::make_shared<ReorderingDevice>(backing, 5);
  const Disk disk = make_disk(scratch, reordering, kCoarse);
  REQUIRE(disk.device->settle().is_ok());
  std::shared_ptr<DirtyBitmap> bitmap = disk.bitmap;
  IntentLog& log = bitmap->intents();
  std::atomic<int> quiet_count{0};
  backing->on_request = [&](const IoRequest& request) {
    if (!request.is_write_class()) return 0;
    const auto marked = log.marked();
    const auto region = static_cast<uint32_t>(request.offset_bytes / kRegion);
    if (std::find(marked.begin(), marked.end(), region) == marked.end()) ++quiet_count;
    return 0;
  };
  TrackedDevice device(reordering, bitmap, std::chrono::milliseconds(1));
  std::vector<std::thread> writers;
  for (uint64_t seed = 0; seed < 3; ++seed) {
    writers.emplace_back([&device, seed] {
      std::mt19937_64 random(seed);
      for (int i = 0; i < 300; ++i) {
        Request write(IoOp::kWrite, random() % kRegionCount * kRegion, kBlock, 1);
        CHECK(write.submit(device).wait() == 0);
        if (i % 50 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(4));
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
  CHECK(quiet_count == 0);
  CHECK(log.status().waiter_count > 0);
}
