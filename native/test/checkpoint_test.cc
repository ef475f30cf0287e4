// take_checkpoint(): the drain, its refusals, and the cut itself under load.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "common/failpoint.h"
#include "tracking_load.h"
#include "tracking_support.h"

using namespace tidemark;
using namespace tidemark::tracking_test;

namespace {

constexpr uint64_t kBlocks = 64;
constexpr auto kLost = static_cast<SuspicionCauses>(SuspicionCause::kLostWrites);

struct Held {
  Held()
      : step(std::make_shared<StepDevice>(make_memory_device(kBlocks * kBlock))),
        disk(make_disk(scratch, step)),
        slot(add_target(*disk.device)) {}

  ScratchDirectory scratch;
  std::shared_ptr<StepDevice> step;
  Disk disk;
  uint32_t slot;
};

// A checkpoint on a thread of its own.
struct Background {
  explicit Background(const Held& held,
                      std::chrono::milliseconds drain_limit = std::chrono::seconds(30))
      : thread([this, &held, drain_limit] {
          auto result = try_checkpoint(held.disk.device, held.slot, {}, drain_limit);
          status = result.status();
          if (result.is_ok()) outcome = std::move(result).value();
          is_done.store(true);
        }) {}
  ~Background() {
    if (thread.joinable()) thread.join();
  }

  Status status;
  CheckpointOutcome outcome;
  std::atomic<bool> is_done{false};
  std::thread thread;
};

// Writes until one is parked: the gate is closed then. Or until the checkpoint is over.
void wait_for_closed_gate(const Held& held, const Background& background,
                          std::vector<std::unique_ptr<Request>>& requests) {
  do {
    auto probe = std::make_unique<Request>(IoOp::kWrite, 40 * kBlock, kBlock, 5);
    probe->submit(*held.disk.device);
    requests.push_back(std::move(probe));
    std::this_thread::yield();
  } while (requests.back()->is_done() && !background.is_done.load());
}

// What the child of the kill test does: marks block 3, cuts, writes it again.
int write_and_cut(const std::string& path, const Uuid& disk, const Uuid& target,
                  const std::string& failpoint_setting) {
  ::setenv("TIDEMARK_FAILPOINT", failpoint_setting.c_str(), 1);
  arm_failpoints_from_environment();
  auto bitmap = DirtyBitmap::create(path, {disk, kBlocks * kBlock, 0});
  if (!bitmap.is_ok()) return 1;
  auto device = std::make_shared<TrackedDevice>(make_memory_device(kBlocks * kBlock),
                                                std::move(bitmap).value());
  const auto slot = device->add_target(target);
  if (!slot.is_ok()) return 2;
  if (!write_sync(*device, 3 * kBlock, filled(kBlock, 1)).is_ok()) return 3;
  const auto outcome = try_checkpoint(device, slot.value());
  if (!outcome.is_ok()) return 4;
  return write_sync(*device, 3 * kBlock, filled(kBlock, 2)).is_ok() ? 0 : 5;
}

}  // namespace

TEST_CASE("T7: a checkpoint waits for writes in flight, counts them, and cuts behind them") {
  Held held;
  held.step->hold([](const IoRequest& request) {
    return request.op == IoOp::kWrite && request.offset_bytes < 2 * kBlock;
  });
  Request first(IoOp::kWrite, 0, kBlock, 1);
  Request second(IoOp::kWrite, kBlock, kBlock, 1);
  first.submit(*held.disk.device);
  second.submit(*held.disk.device);
  held.step->wait_for_held(2);  // the log's thread brings them in
  std::vector<std::unique_ptr<Request>> probes;
  Background background(held);
  wait_for_closed_gate(held, background, probes);

  // Parked, in order; reads and flushes go through.
  std::vector<int> order;
  Request parked_a(IoOp::kWrite, 10 * kBlock, kBlock, 2);
  Request parked_b(IoOp::kWriteZeroes, 11 * kBlock, kBlock);
  Request parked_c(IoOp::kTrim, 12 * kBlock, kBlock);
  parked_a.after = [&] { order.push_back(1); };
  parked_b.after = [&] { order.push_back(2); };
  parked_c.after = [&] { order.push_back(3); };
  parked_a.submit(*held.disk.device);
  parked_b.submit(*held.disk.device);
  parked_c.submit(*held.disk.device);
  CHECK(flush_sync(*held.disk.device).is_ok());
  Bytes content(kBlock);
  CHECK(read_sync(*held.disk.device, 10 * kBlock, content).is_ok());
  CHECK(is_all(content, 0));
  CHECK_FALSE(parked_a.is_done());
  CHECK_FALSE(background.is_done.load());

  held.step->release_all();
  background.thread.join();
  REQUIRE_MESSAGE(background.status.is_ok(), background.status.message());
  CHECK(parked_a.wait() == 0);
  CHECK(parked_c.wait() == 0);
  CHECK(order == std::vector<int>{1, 2, 3});
  CHECK(first.wait() == 0);
  CHECK(second.wait() == 0);
  // Those held; the one probe that this thread was passing through the gate may be a third.
  CHECK(background.outcome.requests_in_flight >= 2);
  CHECK(background.outcome.requests_in_flight <= 3);
  CHECK(background.outcome.pause_ns > 0);
  const auto& capture = background.outcome.captures.at(0);
  CHECK(extents_of(*capture).substr(0, 3) == "0+2");
  CHECK_FALSE(held.disk.bitmap->is_dirty(MapId::in_flight(held.slot), 10));
  CHECK(held.disk.bitmap->is_dirty(MapId::live(), 10));
  CHECK(is_all(read_capture(*capture, 0, 2 * kBlock), 1));
  for (const auto& probe : probes) CHECK(probe->wait() == 0);
}

TEST_CASE("T19: past the drain limit the gates open, nothing changed, and the writes go on") {
  Held held;
  write_blocks(*held.disk.device, 5, 1, 1);
  held.step->hold([](const IoRequest& request) { return request.offset_bytes == 0; });
  Request stuck(IoOp::kWrite, 0, kBlock, 1);
  stuck.submit(*held.disk.device);
  std::vector<std::unique_ptr<Request>> probes;
  {
    Background background(held, std::chrono::milliseconds(200));
    wait_for_closed_gate(held, background, probes);
    background.thread.join();
    CHECK(background.status.code() == ErrorCode::kTimedOut);
  }
  for (const auto& probe : probes) CHECK(probe->wait() == 0);
  CHECK_FALSE(stuck.is_done());
  CHECK(held.disk.bitmap->dirty_block_count(MapId::live()) == 3);
  CHECK(held.disk.bitmap->dirty_block_count(MapId::pending(held.slot)) == 0);
  CHECK(try_checkpoint(held.disk.device, held.slot, {}, std::chrono::milliseconds(0))
            .status()
            .code() == ErrorCode::kTimedOut);
  held.step->release_all();
  CHECK(stuck.wait() == 0);
  CHECK(extents_of(*checkpoint(held.disk.device, held.slot)) == "0+1 5+1 40+1");
}

TEST_CASE("T6: a write that ends long after everything else gave up on it is in the next cut") {
  Held held;
  held.step->hold(IoOp::kWrite);
  Request late(IoOp::kWrite, 3 * kBlock, kBlock, 7);
  late.submit(*held.disk.device);
  held.step->wait_for_held(1);  // the log's thread brings it in
  CHECK(try_checkpoint(held.disk.device, held.slot, {}, std::chrono::milliseconds(1))
            .status()
            .code() == ErrorCode::kTimedOut);
  CHECK(held.disk.bitmap->is_dirty(MapId::live(), 3));
  held.step->release_all();
  CHECK(late.wait() == 0);
  const auto capture = checkpoint(held.disk.device, held.slot);
  CHECK(extents_of(*capture) == "3+1");
  CHECK(is_all(read_capture(*capture, 3 * kBlock, kBlock), 7));
}

TEST_CASE("a write that waits for one target's copy holds up another's checkpoint, time-boxed") {
  Held held;
  const uint32_t other = add_target(*held.disk.device);
  write_blocks(*held.disk.device, 0, 1, 1);
  const auto capture = checkpoint(held.disk.device, held.slot);
  held.step->hold(IoOp::kRead);
  Request write(IoOp::kWrite, 0, kBlock, 2);
  write.submit(*held.disk.device);
  CHECK(try_checkpoint(held.disk.device, other, {}, std::chrono::milliseconds(1)).status().code() ==
        ErrorCode::kTimedOut);
  held.step->release_all();
  CHECK(write.wait() == 0);
  CHECK(is_all(read_capture(*capture, 0, kBlock), 1));
  const auto second = checkpoint(held.disk.device, other);
  CHECK(is_all(read_capture(*second, 0, kBlock), 2));
}

TEST_CASE("a checkpoint that cannot be right is refused, each with its reason") {
  Held held;
  const auto code = [&](std::vector<CheckpointMember> members) {
    return take_checkpoint(members, {}).status().code();
  };
  const CheckpointMember member{held.disk.device, held.slot, {}};
  CHECK(code({}) == ErrorCode::kInvalidArgument);
  CHECK(code({{nullptr, 0, {}}}) == ErrorCode::kInvalidArgument);
  CHECK(code({member, member}) == ErrorCode::kInvalidArgument);
  CHECK(code({{held.disk.device, held.slot + 1, {}}}) == ErrorCode::kInvalidArgument);
  CHECK(code({{held.disk.device, 99, {}}}) == ErrorCode::kInvalidArgument);

  const auto open = checkpoint(held.disk.device, held.slot);
  CHECK(code({member}) == ErrorCode::kInUse);  // even of nothing
  open->close();
  write_blocks(*held.disk.device, 0, 1, 1);
  checkpoint(held.disk.device, held.slot)->close();
  CHECK(code({member}) == ErrorCode::kInvalidArgument);  // undecided changes
  REQUIRE(held.disk.device->give_back(held.slot).is_ok());
  CHECK(extents_of(*checkpoint(held.disk.device, held.slot)) == "0+1");
}

TEST_CASE("one member's refusal leaves the others as they were") {
  Held held;
  Held other;
  write_blocks(*held.disk.device, 0, 1, 1);
  const auto open = checkpoint(other.disk.device, other.slot);
  const std::vector<CheckpointMember> members{{held.disk.device, held.slot, {}},
                                              {other.disk.device, other.slot, {}}};
  CHECK(take_checkpoint(members, {}).status().code() == ErrorCode::kInUse);
  CHECK(held.disk.bitmap->is_dirty(MapId::live(), 0));
  CHECK(extents_of(*checkpoint(held.disk.device, held.slot)) == "0+1");
}

TEST_CASE("what an earlier merge left in the closed map is merged before the next flip") {
  Held held;
  write_blocks(*held.disk.device, 1, 1, 1);
  held.disk.bitmap->flip();  // as after a checkpoint whose merge failed
  write_blocks(*held.disk.device, 2, 1, 2);
  CHECK(extents_of(*checkpoint(held.disk.device, held.slot)) == "1+2");
}

TEST_CASE("a suspect block is part of every cut, and only a commit ends the suspicion") {
  Held held;
  TrackedDevice& device = *held.disk.device;
  const DirtyBitmap& bitmap = device.bitmap();
  CHECK(device.mark_suspect(held.slot, 3 * kBlock, 1, kLost).is_ok());
  auto capture = checkpoint(held.disk.device, held.slot);
  CHECK(bitmap.dirty_block_count(MapId::suspect(held.slot)) == 0);
  CHECK(bitmap.is_dirty(MapId::in_flight(held.slot), 3));
  CHECK(device.mark_suspect(held.slot, 5 * kBlock, 1, kLost).is_ok());
  capture->close();
  CHECK(device.commit(held.slot).is_ok());
  CHECK(bitmap.is_dirty(MapId::suspect(held.slot), 5));
  CHECK(bitmap.suspicion_causes(held.slot) != 0);
  capture = checkpoint(held.disk.device, held.slot);
  CHECK(bitmap.is_dirty(MapId::in_flight(held.slot), 5));
  capture->close();
  CHECK(device.commit(held.slot).is_ok());
  CHECK(bitmap.suspicion_causes(held.slot) == 0);
}

TEST_CASE("a comparison settles what it saw, unless a new suspicion overtook it") {
  Held held;
  TrackedDevice& device = *held.disk.device;
  const DirtyBitmap& bitmap = device.bitmap();
  const std::vector<ByteExtent> equal{{0, 2 * kBlock}};
  const std::vector<ByteExtent> different{{2 * kBlock, kBlock}};
  CHECK(device.mark_suspect(held.slot, 0, 3 * kBlock, kLost).is_ok());
  const uint64_t count = device.begin_comparison(held.slot).value();
  CHECK(device.mark_suspect(held.slot, 0, 1, kLost).is_ok());
  CHECK_FALSE(device.settle_comparison(held.slot, count, equal, different).value());
  CHECK(bitmap.dirty_block_count(MapId::suspect(held.slot)) == 3);
  const uint64_t again = device.begin_comparison(held.slot).value();
  CHECK(device.settle_comparison(held.slot, again, equal, different).value());
  CHECK(bitmap.dirty_block_count(MapId::suspect(held.slot)) == 0);
  CHECK(bitmap.dirty_block_count(MapId::pending(held.slot)) == 1);
  CHECK(bitmap.is_dirty(MapId::pending(held.slot), 2));
}

TEST_CASE("what is staged and suspect is not compared but travels again") {
  Held held;
  TrackedDevice& device = *held.disk.device;
  const DirtyBitmap& bitmap = device.bitmap();
  CHECK(device.mark_pending(held.slot, 7 * kBlock, 1).is_ok());
  auto capture = checkpoint(held.disk.device, held.slot);
  capture->close();
  CHECK(device.stage(held.slot).is_ok());
  CHECK(device.mark_suspect(held.slot, 6 * kBlock, 3 * kBlock, kLost).is_ok());
  CHECK(device.begin_comparison(held.slot).is_ok());
  CHECK(bitmap.is_dirty(MapId::pending(held.slot), 7));
  CHECK(bitmap.is_dirty(MapId::staged(held.slot), 7));
  CHECK_FALSE(bitmap.is_dirty(MapId::suspect(held.slot), 7));
  CHECK(bitmap.dirty_block_count(MapId::suspect(held.slot)) == 2);
}

TEST_CASE("without captures the blocks of the cut are read as they are now, and nothing is saved") {
  Held held;
  write_blocks(*held.disk.device, 0, 2, 1);
  const CheckpointMember member{held.disk.device, held.slot, {}};
  CheckpointOptions options;
  options.with_captures = false;
  auto outcome = take_checkpoint({&member, 1}, options);
  REQUIRE(outcome.is_ok());
  const auto capture = outcome.value().captures.at(0);
  CHECK(extents_of(*capture) == "0+2");
  CHECK(capture->dirty_bytes() == 2 * kBlock);
  write_blocks(*held.disk.device, 1, 1, 2);
  CHECK(held.step->count(IoOp::kRead) == 0);
  CHECK(is_all(read_capture(*capture, kBlock, kBlock), 2));
  capture->release(0, 2 * kBlock);
  CHECK(is_all(read_capture(*capture, 0, kBlock), 1));
  CHECK(read_code(*capture, 2 * kBlock, 1) == ErrorCode::kInvalidArgument);
  CHECK(try_checkpoint(held.disk.device, held.slot).status().code() == ErrorCode::kInUse);
  capture->close();
  CHECK(read_code(*capture, 0, 1) == ErrorCode::kClosed);
  CHECK(held.disk.device->commit(held.slot).is_ok());
  CHECK(extents_of(*checkpoint(held.disk.device, held.slot)) == "1+1");
}

TEST_CASE("T3: killed at any named place of a write or a cut, no mark is lost") {
  for (const std::string place : {"mark", "write", "flip", "copy-before-write", "none"}) {
    CAPTURE(place);
    ScratchDirectory scratch;
    const std::string path = scratch.path() + "/disk.bitmap";
    const Uuid disk = Uuid::random();
    const Uuid target = Uuid::random();
    const pid_t child = ::fork();
    if (child == 0) ::_exit(write_and_cut(path, disk, target, place + ":1"));
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    if (place == "none") {
      CHECK((WIFEXITED(status) && WEXITSTATUS(status) == 0));
      continue;
    }
    CHECK((WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));
    const auto bitmap = DirtyBitmap::open(path, disk, kBlocks * kBlock);
    REQUIRE_MESSAGE(bitmap.is_ok(), bitmap.status().message());
    const auto slot = bitmap.value()->find_target(target);
    REQUIRE(slot.has_value());
    CHECK(bitmap.value()->is_dirty(MapId::pending(*slot), 3));
  }
}

TEST_CASE("T12: a target that is added as suspect is there with all of it suspect, or not at all") {
  for (const std::string place : {"bitmap.add_target", "bitmap.added_target"}) {
    CAPTURE(place);
    ScratchDirectory scratch;
    const std::string path = scratch.path() + "/disk.bitmap";
    const Uuid disk = Uuid::random();
    const Uuid target = Uuid::random();
    const pid_t child = ::fork();
    if (child == 0) {
      ::setenv("TIDEMARK_FAILPOINT", (place + ":1").c_str(), 1);
      arm_failpoints_from_environment();
      auto bitmap = DirtyBitmap::create(path, {disk, kBlocks * kBlock, 0});
      TrackedDevice device(make_memory_device(kBlocks * kBlock), std::move(bitmap).value());
      (void)device.add_target(target, TargetStart::kSuspect);
      ::_exit(0);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK((WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));
    const auto bitmap = DirtyBitmap::open(path, disk, kBlocks * kBlock);
    REQUIRE_MESSAGE(bitmap.is_ok(), bitmap.status().message());
    const auto slot = bitmap.value()->find_target(target);
    CHECK(slot.has_value() == (place == "bitmap.added_target"));
    if (!slot) continue;
    CHECK(bitmap.value()->dirty_block_count(MapId::suspect(*slot)) == kBlocks);
    CHECK(bitmap.value()->suspicion_causes(*slot) ==
          static_cast<SuspicionCauses>(SuspicionCause::kMapLost));
  }
}

TEST_CASE("T18: no cut of two disks holds the second of two dependent writes without the first") {
  DependentWrites load;
  load.run(400, 100);
  CHECK(load.violations == 0);
  CHECK(load.checkpoints >= 400);
  CHECK(load.with_writes_in_flight >= 100);
}

TEST_CASE("G2: under load each target's replica equals the disks at every cut (inline backing)") {
  for (const uint64_t seed : {1, 2}) {
    CAPTURE(seed);
    ConsistencyLoad load({.seed = seed, .is_reordered = false, .cycles = 60});
    load.run();
    CHECK(load.faults() == std::vector<std::string>{});
    CHECK(load.replicas_equal_disks());
  }
}

TEST_CASE("G2: under load each target's replica equals the disks at every cut (async backing)") {
  for (const uint64_t seed : {3, 4, 5}) {
    CAPTURE(seed);
    ConsistencyLoad load({.seed = seed, .is_reordered = true, .cycles = 60});
    load.run();
    CHECK(load.faults() == std::vector<std::string>{});
    CHECK(load.replicas_equal_disks());
    CHECK(load.saved_bytes() > 0);
  }
}
