// TrackedDevice, its gate, and what of a capture is asked on the way of a write.
#include <doctest/doctest.h>

#include <algorithm>
#include <cctype>
#include <cerrno>

#include "device/fault_device.h"
#include "device_contract.h"
#include "tracking/block_states.h"
#include "tracking/capture_blocks.h"
#include "tracking/gate.h"
#include "tracking_support.h"

using namespace tidemark;
using namespace tidemark::tracking_test;

namespace {

constexpr uint64_t kMiB = 1ULL << 20;

bool is_live(const Disk& disk, uint64_t block) {
  return disk.bitmap->is_dirty(MapId::live(), block);
}

// The device under test keeps its bitmap's directory.
struct OwningDevice final : BlockDevice {
  explicit OwningDevice(uint64_t size) : disk(make_disk(scratch, make_memory_device(size))) {}
  uint64_t size_bytes() const noexcept override { return disk.device->size_bytes(); }
  const DeviceTraits& traits() const noexcept override { return disk.device->traits(); }
  void submit(IoRequest& request) noexcept override { disk.device->submit(request); }
  std::vector<std::string> extent_contexts() const override {
    return disk.device->extent_contexts();
  }
  Status query_extents(std::string_view context, uint64_t offset_bytes, uint64_t length_bytes,
                       size_t max_extents, std::vector<DeviceExtent>& extents) override {
    return disk.device->query_extents(context, offset_bytes, length_bytes, max_extents, extents);
  }

  ScratchDirectory scratch;
  Disk disk;
};

// As OwningDevice, with a capture of the whole disk open: every write saves first.
struct CapturedDevice final : BlockDevice {
  explicit CapturedDevice(uint64_t size) : inner(size) {
    const uint32_t slot = add_target(*inner.disk.device);
    REQUIRE(inner.disk.device->mark_pending(slot, 0, size).is_ok());
    capture = checkpoint(inner.disk.device, slot);
  }
  uint64_t size_bytes() const noexcept override { return inner.size_bytes(); }
  const DeviceTraits& traits() const noexcept override { return inner.traits(); }
  void submit(IoRequest& request) noexcept override { inner.submit(request); }
  Status query_extents(std::string_view context, uint64_t offset_bytes, uint64_t length_bytes,
                       size_t max_extents, std::vector<DeviceExtent>& extents) override {
    return inner.query_extents(context, offset_bytes, length_bytes, max_extents, extents);
  }

  OwningDevice inner;
  std::shared_ptr<Capture> capture;
};

std::string text_of(const std::vector<DeviceExtent>& extents) {
  std::string text;
  for (const DeviceExtent& extent : extents) {
    text += std::to_string(extent.length_bytes / kBlock) + (extent.flags != 0 ? "d" : "c");
  }
  return text;
}

std::string query(TrackedDevice& device, const std::string& context, uint64_t offset_bytes,
                  uint64_t length_bytes, size_t max_extents = 100) {
  std::vector<DeviceExtent> extents;
  REQUIRE(device.query_extents(context, offset_bytes, length_bytes, max_extents, extents).is_ok());
  return text_of(extents);
}

}  // namespace

TEST_CASE("TrackedDevice keeps the contract") {
  run_device_contract("tracked",
                      [](uint64_t size) { return std::make_shared<OwningDevice>(size); });
}

TEST_CASE("TrackedDevice with a capture of the whole disk keeps the contract") {
  run_device_contract("captured",
                      [](uint64_t size) { return std::make_shared<CapturedDevice>(size); });
}

TEST_CASE("T1: a write's blocks are marked when the backing gets it, rounded out (T9)") {
  ScratchDirectory scratch;
  auto step = std::make_shared<StepDevice>(make_memory_device(kMiB));
  const Disk disk = make_disk(scratch, step);
  bool marked_first = false;
  step->hold([&](const IoRequest& request) {
    if (request.op == IoOp::kWrite) marked_first = is_live(disk, 1) && is_live(disk, 2);
    return false;
  });
  Request write(IoOp::kWrite, 2 * kBlock - 1, 2, 7);
  CHECK(write.submit(*disk.device).wait() == 0);
  CHECK(marked_first);
  CHECK_FALSE(is_live(disk, 0));
  CHECK_FALSE(is_live(disk, 3));
}

TEST_CASE("T8: trim and write-zeroes mark as a write does; reads and flushes do not") {
  ScratchDirectory scratch;
  const Disk disk = make_disk(scratch, make_memory_device(kMiB));
  CHECK(trim_sync(*disk.device, 0, kBlock).is_ok());
  CHECK(write_zeroes_sync(*disk.device, 2 * kBlock, kBlock).is_ok());
  Bytes content(kBlock);
  CHECK(read_sync(*disk.device, 4 * kBlock, content).is_ok());
  CHECK(flush_sync(*disk.device).is_ok());
  CHECK(is_live(disk, 0));
  CHECK(is_live(disk, 2));
  CHECK(disk.bitmap->dirty_block_count(MapId::live()) == 2);
}

TEST_CASE("a trim that would not read zeroes is marked, answered and not passed on") {
  ScratchDirectory scratch;
  auto step = std::make_shared<StepDevice>(make_memory_device(kMiB));
  step->set_trim_reads_zero(false);
  const Disk disk = make_disk(scratch, step);
  write_blocks(*disk.device, 0, 1, 5);
  CHECK(trim_sync(*disk.device, 0, 2 * kBlock).is_ok());
  CHECK(step->count(IoOp::kTrim) == 0);
  CHECK(is_live(disk, 1));
  Bytes content(kBlock);
  REQUIRE(read_sync(*disk.device, 0, content).is_ok());
  CHECK(is_all(content, 5));
}

TEST_CASE("T5: a write that fails, with whatever part of its effect, stays marked") {
  ScratchDirectory scratch;
  auto fault = make_fault_device(make_memory_device(kMiB));
  const Disk disk = make_disk(scratch, fault);
  const uint32_t slot = add_target(*disk.device);
  fault->fail_next(IoOp::kWrite, EIO, 1, 0, kBlock);
  Request write(IoOp::kWrite, 0, 3 * kBlock, 9);
  CHECK(write.submit(*disk.device).wait() == EIO);
  const auto capture = checkpoint(disk.device, slot);
  CHECK(extents_of(*capture) == "0+3");
  CHECK(is_all(read_capture(*capture, 0, kBlock), 9));
  CHECK(is_all(read_capture(*capture, kBlock, 2 * kBlock), 0));
}

TEST_CASE("a request outside the disk is refused before it could mark outside the map") {
  ScratchDirectory scratch;
  const Disk disk = make_disk(scratch, make_memory_device(10 * kBlock));
  for (const auto& [offset, length] :
       {std::pair<uint64_t, uint64_t>{10 * kBlock, 1}, {9 * kBlock, kBlock + 1}, {UINT64_MAX, 2}}) {
    IoRequest request;
    request.op = IoOp::kWriteZeroes;
    request.offset_bytes = offset;
    request.length_bytes = length;
    CHECK(submit_and_wait(*disk.device, request) == EINVAL);
  }
  CHECK(disk.bitmap->dirty_block_count(MapId::live()) == 0);
}

TEST_CASE("the gate counts what is inside, drains, and hands out what it parked in order") {
  Gate gate;
  IoRequest requests[4];
  uint64_t shards[4] = {};
  REQUIRE(gate.enter(requests[0], shards[0]));
  REQUIRE(gate.enter(requests[1], shards[1]));
  gate.leave(shards[1]);
  CHECK(gate.close() == 1);
  CHECK_FALSE(gate.wait_drained(std::chrono::steady_clock::now()));
  CHECK_FALSE(gate.enter(requests[2], shards[2]));
  CHECK_FALSE(gate.enter(requests[3], shards[3]));
  gate.leave(shards[0]);
  CHECK(gate.wait_drained(std::chrono::steady_clock::now()));
  IoRequest* const first = gate.open();
  REQUIRE(first == &requests[2]);
  CHECK(first->next == &requests[3]);
  CHECK(requests[3].next == nullptr);
  CHECK(gate.enter(requests[1], shards[1]));
}

TEST_CASE("nobody is inside a drained gate, however threads come and go") {
  Gate gate;
  std::atomic<bool> is_ending{false};
  std::atomic<int> inside{0};
  std::atomic<uint64_t> passed{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] {
      IoRequest request;  // parked at most once at a time: the thread waits for it
      std::atomic<bool> is_back{false};
      while (!is_ending.load()) {
        uint64_t shard = 0;
        request.data = reinterpret_cast<std::byte*>(&is_back);
        is_back.store(false);
        if (!gate.enter(request, shard)) {
          wait_until([&] { return is_back.load(); });
          continue;
        }
        inside.fetch_add(1);
        passed.fetch_add(1);
        inside.fetch_sub(1);
        gate.leave(shard);
      }
    });
  }
  for (int round = 0; round < 300; ++round) {
    const uint64_t passed_so_far = passed.load();
    wait_until([&] { return passed.load() > passed_so_far; });
    gate.close();
    REQUIRE(gate.wait_drained(std::chrono::steady_clock::now() + std::chrono::seconds(30)));
    const uint64_t before = passed.load();
    CHECK(inside.load() == 0);
    std::this_thread::yield();
    CHECK(passed.load() == before);
    for (IoRequest* request = gate.open(); request != nullptr;) {
      IoRequest* const next = request->next;
      reinterpret_cast<std::atomic<bool>*>(request->data)->store(true);
      request = next;
    }
  }
  is_ending.store(true);
  for (std::thread& thread : threads) thread.join();
}

TEST_CASE("block states change one at a time and are released in runs of any shape") {
  auto created = BlockStates::create(1000);
  REQUIRE(created.is_ok());
  BlockStates& states = *created.value();
  std::vector<BlockState> model(1000, BlockState::kFrozen);
  std::mt19937_64 random(3);
  for (int step = 0; step < 3000; ++step) {
    const uint64_t block = random() % 1000;
    if (random() % 20 != 0) {
      const auto from = static_cast<BlockState>(random() % 3);
      const auto to = static_cast<BlockState>(random() % 3);
      const bool fits = model[block] == from;
      REQUIRE(states.change(block, from, to) == fits);
      if (fits) model[block] = to;
      continue;
    }
    const uint64_t end = block + random() % (1001 - block) % 100;
    std::vector<uint64_t> saved;
    std::vector<uint64_t> expected;
    for (uint64_t i = block; i < end; ++i) {
      if (model[i] == BlockState::kSaved) expected.push_back(i);
      model[i] = BlockState::kReleased;
    }
    states.release(block, end, [&](uint64_t index) { saved.push_back(index); });
    REQUIRE(saved == expected);
    for (uint64_t i = 0; i < 1000; ++i) REQUIRE(states.get(i) == model[i]);
  }
}

// Every way in which the two moves of a merge can fall between the three looks.
TEST_CASE("a bit that moves while a writer looks for it is seen, wherever the moves fall") {
  ScratchDirectory scratch;
  const Disk disk = make_disk(scratch, make_memory_device(8 * kBlock));
  const uint32_t slot = add_target(*disk.device);
  for (size_t merge_at = 0; merge_at <= 3; ++merge_at) {
    for (size_t take_at = merge_at; take_at <= 3; ++take_at) {
      CAPTURE(merge_at);
      CAPTURE(take_at);
      disk.bitmap->mark(5 * kBlock, 1);
      disk.bitmap->flip();
      bool is_seen = false;
      for (size_t look = 0; look <= 3; ++look) {
        if (look == merge_at) REQUIRE(disk.bitmap->merge_closed().is_ok());
        if (look == take_at) REQUIRE(disk.bitmap->take_pending(slot).is_ok());
        if (look == 3) break;
        is_seen |= disk.bitmap->is_dirty({CaptureBlocks::kLookOrder[look], slot}, 5);
      }
      CHECK(is_seen);
      REQUIRE(disk.bitmap->commit(slot).is_ok());
    }
  }
}

// While the merge runs a block's bit is in one or two of three maps; a look at
// any moment finds exactly the blocks of the cut, by either way of looking.
TEST_CASE("a writer that asks while the maps are merged gets exactly the blocks of the cut") {
  ScratchDirectory scratch;
  constexpr uint64_t kBlocks = 3000;
  const Disk disk = make_disk(scratch, make_memory_device(kBlocks * kBlock));
  const uint32_t slot = add_target(*disk.device);
  std::mt19937_64 random(5);
  for (int round = 0; round < 30; ++round) {
    std::vector<bool> expected(kBlocks);
    for (int i = 0; i < 400; ++i) {
      const uint64_t block = random() % kBlocks;
      const bool by_live = random() % 2 == 0;
      if (by_live) disk.bitmap->mark(block * kBlock, 1);
      if (!by_live) disk.bitmap->mark_pending(slot, block * kBlock, 1);
      expected[block] = true;
    }
    disk.bitmap->flip();
    CaptureBlocks blocks(*disk.bitmap, slot);
    std::atomic<bool> is_ending{false};
    std::atomic<uint64_t> looks{0};
    std::atomic<uint64_t> wrong{0};
    std::thread evaluator([&] {
      std::mt19937_64 own(static_cast<uint64_t>(round));
      while (!is_ending.load()) {
        const bool is_long = own() % 2 == 0;
        const uint64_t first = is_long ? 0 : own() % (kBlocks - 1000);
        const uint64_t end = is_long ? kBlocks : first + 1000;
        std::vector<bool> seen(kBlocks);
        for (uint64_t from = first; from < end;) {
          const auto run = blocks.next(from, end);
          if (!run) break;
          for (from = run->first; from < run->end; ++from) seen[from] = true;
        }
        for (uint64_t i = first; i < end; ++i) wrong += seen[i] != expected[i];
        ++looks;
      }
    });
    wait_until([&] { return looks.load() > 2; });
    disk.bitmap->mark(random() % kBlocks * kBlock, 1);  // newer: not of this cut
    REQUIRE(disk.bitmap->merge_closed().is_ok());
    REQUIRE(disk.bitmap->take_pending(slot).is_ok());
    blocks.on_merged();
    const uint64_t merged_at = looks.load();
    wait_until([&] { return looks.load() > merged_at + 2; });
    is_ending.store(true);
    evaluator.join();
    CHECK(wrong.load() == 0);
    REQUIRE(disk.bitmap->commit(slot).is_ok());
    disk.bitmap->flip();
    REQUIRE(disk.bitmap->merge_closed().is_ok());
    disk.bitmap->clear_pending(slot, 0, kBlocks * kBlock);
  }
}

TEST_CASE("a target's dirty context has the target's name as well") {
  ScratchDirectory scratch;
  const Disk disk = make_disk(scratch, make_memory_device(16 * kBlock));
  const Uuid id = Uuid::random();
  add_target(*disk.device, id);
  const std::string target = "qemu:dirty-bitmap:" + id.to_string();
  const std::string live = "qemu:dirty-bitmap:live";

  // The UUID that lib/tracking/target-id.ts and RFC 9562 give the name.
  const uint32_t named =
      add_target(*disk.device, *Uuid::parse("09a86ee3-8346-538e-a019-6ae2053a79d1"));
  CHECK(disk.device->resolve_context("qemu:dirty-bitmap:backup") ==
        "qemu:dirty-bitmap:09a86ee3-8346-538e-a019-6ae2053a79d1");
  std::string upper_case = target;
  std::transform(upper_case.begin() + 18, upper_case.end(), upper_case.begin() + 18, ::toupper);
  CHECK(disk.device->resolve_context(upper_case) == target);
  CHECK(disk.device->resolve_context("qemu:dirty-bitmap:other") == "");
  CHECK(disk.device->resolve_context("backup") == "");
  CHECK(disk.device->resolve_context(live) == live);
  REQUIRE(disk.device->remove_target(named).is_ok());
  CHECK(disk.device->resolve_context("qemu:dirty-bitmap:backup") == "");
}

TEST_CASE("the dirty contexts show what the next checkpoint adds, and what a target still lacks") {
  ScratchDirectory scratch;
  const Disk disk = make_disk(scratch, make_memory_device(16 * kBlock));
  const Uuid id = Uuid::random();
  const uint32_t slot = add_target(*disk.device, id);
  const std::string target = "qemu:dirty-bitmap:" + id.to_string();
  const std::string live = "qemu:dirty-bitmap:live";
  CHECK(disk.device->extent_contexts() ==
        std::vector<std::string>{"base:allocation", live, target});

  write_blocks(*disk.device, 2, 2, 1);
  CHECK(query(*disk.device, live, 0, 16 * kBlock) == "2c2d12c");
  REQUIRE(disk.device->mark_pending(slot, 4 * kBlock, kBlock).is_ok());
  CHECK(query(*disk.device, target, 0, 16 * kBlock) == "2c3d11c");
  CHECK(query(*disk.device, target, 3 * kBlock, kBlock) == "1d");
  CHECK(query(*disk.device, target, 0, 16 * kBlock, 2) == "2c3d");

  const auto capture = checkpoint(disk.device, slot);
  write_blocks(*disk.device, 15, 1, 1);
  CHECK(query(*disk.device, live, 0, 16 * kBlock) == "15c1d");
  CHECK(query(*disk.device, target, 0, 16 * kBlock) == "15c1d");
  capture->close();
  REQUIRE(disk.device->give_back(slot).is_ok());
  CHECK(query(*disk.device, target, 0, 16 * kBlock) == "2c3d10c1d");

  std::vector<DeviceExtent> extents;
  CHECK(disk.device->query_extents("qemu:dirty-bitmap:none", 0, kBlock, 1, extents).code() ==
        ErrorCode::kNotFound);
  REQUIRE(disk.device->remove_target(slot).is_ok());
  CHECK(disk.device->query_extents(target, 0, kBlock, 1, extents).code() == ErrorCode::kNotFound);
  CHECK(disk.device->extent_contexts().size() == 2);
}
