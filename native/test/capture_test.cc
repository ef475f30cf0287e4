// Capture: each state of a block, from the writer's and from the reader's side.
#include <doctest/doctest.h>

#include <cerrno>

#include "tracking/frozen_capture.h"
#include "tracking_support.h"

using namespace tidemark;
using namespace tidemark::tracking_test;

namespace {

constexpr uint64_t kBlocks = 256;

CaptureLimits memory_only(uint64_t bytes) {
  CaptureLimits limits;
  limits.memory_bytes = bytes;
  return limits;
}

// A disk whose first `captured` blocks hold the value 1, frozen in a capture,
// over a backing whose requests the test can hold.
struct Frozen {
  explicit Frozen(const CaptureLimits& limits = {}, uint64_t captured = 16)
      : step(std::make_shared<StepDevice>(make_memory_device(kBlocks * kBlock))),
        disk(make_disk(scratch, step)),
        slot(add_target(*disk.device)) {
    write_blocks(*disk.device, 0, captured, 1);
    capture = checkpoint(disk.device, slot, limits);
  }

  BlockDevice& device() { return *disk.device; }
  uint64_t memory_used() const {
    return dynamic_cast<const FrozenCapture&>(*capture).memory_used_bytes();
  }

  ScratchDirectory scratch;
  std::shared_ptr<StepDevice> step;
  Disk disk;
  uint32_t slot;
  std::shared_ptr<Capture> capture;
};

// Reads two blocks with one request that the backing holds, while `meanwhile`
// runs; saving reads are of one block and pass.
ErrorCode read_two_while(Frozen& frozen, Bytes& content, const std::function<void()>& meanwhile) {
  frozen.step->hold([](const IoRequest& request) {
    return request.op == IoOp::kRead && request.length_bytes == 2 * kBlock;
  });
  ErrorCode code = ErrorCode::kOk;
  std::thread reader([&] { code = frozen.capture->read(0, content).code(); });
  frozen.step->wait_for_held(1);
  meanwhile();
  frozen.step->release_all();
  reader.join();
  return code;
}

}  // namespace

TEST_CASE("a capture lists what was written since the last checkpoint, the tail partial") {
  ScratchDirectory scratch;
  const Disk disk = make_disk(scratch, make_memory_device(10 * kBlock + 100));
  const uint32_t slot = add_target(*disk.device);
  write_blocks(*disk.device, 2, 3, 1);
  REQUIRE(write_sync(*disk.device, 10 * kBlock, filled(100, 2)).is_ok());
  const auto capture = checkpoint(disk.device, slot);
  CHECK(extents_of(*capture) == "2+3 10+1");
  CHECK(capture->dirty_bytes() == 3 * kBlock + 100);
  CHECK(capture->disk_size_bytes() == 10 * kBlock + 100);
  CHECK(capture->granularity_bytes() == kBlock);
  const auto cut = capture->next_extent(2 * kBlock + 10, kBlock);
  REQUIRE(cut.has_value());
  CHECK(cut->offset_bytes == 2 * kBlock + 10);
  CHECK(cut->length_bytes == kBlock);

  REQUIRE(write_sync(*disk.device, 10 * kBlock + 50, filled(50, 3)).is_ok());
  CHECK(is_all(read_capture(*capture, 10 * kBlock, 100), 2));
  CHECK(is_all(read_capture(*capture, 10 * kBlock + 40, 60), 2));
  capture->close();
  REQUIRE(disk.device->commit(slot).is_ok());
  CHECK(extents_of(*checkpoint(disk.device, slot)) == "10+1");
}

TEST_CASE("a write before the reader comes: the reader gets the content at the cut") {
  Frozen frozen;
  write_blocks(frozen.device(), 3, 2, 9);
  CHECK(is_all(read_capture(*frozen.capture, 0, 16 * kBlock), 1));
  CHECK(is_all(read_capture(*frozen.capture, 3 * kBlock + 7, kBlock), 1));
  CHECK(frozen.capture->saved_bytes() == 2 * kBlock);
  CHECK(content_of(frozen.device())[3 * kBlock] == std::byte{9});
}

TEST_CASE("T17: a write during the reader's read does not wait for it, and is not seen by it") {
  Frozen frozen;
  Bytes content(2 * kBlock);
  const ErrorCode code = read_two_while(frozen, content, [&] {
    write_blocks(frozen.device(), 1, 1, 9);  // completes while the reader's read is held
  });
  CHECK(code == ErrorCode::kOk);
  CHECK(is_all(content, 1));
}

TEST_CASE("T17: trim and write-zeroes during the reader's read are not seen by it either") {
  for (const IoOp op : {IoOp::kTrim, IoOp::kWriteZeroes}) {
    Frozen frozen;
    Bytes content(2 * kBlock);
    const ErrorCode code = read_two_while(frozen, content, [&] {
      Request request(op, kBlock, kBlock);
      CHECK(request.submit(frozen.device()).wait() == 0);
    });
    CHECK(code == ErrorCode::kOk);
    CHECK(is_all(content, 1));
  }
}

TEST_CASE("trim and write-zeroes over frozen blocks save them first") {
  for (const IoOp op : {IoOp::kTrim, IoOp::kWriteZeroes}) {
    Frozen frozen;
    Request request(op, kBlock, 200 * kBlock);
    CHECK(request.submit(frozen.device()).wait() == 0);
    CHECK(content_of(frozen.device())[2 * kBlock] == std::byte{0});
    CHECK(is_all(read_capture(*frozen.capture, 0, 16 * kBlock), 1));
    CHECK(frozen.capture->saved_bytes() == 15 * kBlock);
  }
}

TEST_CASE("a trim that is not passed on saves nothing") {
  Frozen frozen;
  auto step = std::make_shared<StepDevice>(make_memory_device(kBlocks * kBlock));
  step->set_trim_reads_zero(false);
  const Disk disk = make_disk(frozen.scratch, step);
  const uint32_t slot = add_target(*disk.device);
  write_blocks(*disk.device, 0, 4, 1);
  const auto capture = checkpoint(disk.device, slot);
  CHECK(trim_sync(*disk.device, 0, 4 * kBlock).is_ok());
  CHECK(capture->saved_bytes() == 0);
  CHECK(is_all(read_capture(*capture, 0, 4 * kBlock), 1));
}

TEST_CASE("the reader waits for a copy under way and takes it") {
  Frozen frozen;
  frozen.step->hold(IoOp::kRead);
  Request write(IoOp::kWrite, 0, kBlock, 9);
  write.submit(frozen.device());
  CHECK(frozen.step->held_count() == 1);
  std::atomic<bool> is_read{false};
  Bytes content(kBlock);
  std::thread reader([&] {
    CHECK(frozen.capture->read(0, content).is_ok());
    is_read.store(true);
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(2));
  CHECK_FALSE(is_read.load());
  CHECK(frozen.step->held_count() == 1);
  frozen.step->release_all();
  reader.join();
  CHECK(is_all(content, 1));
  CHECK(write.wait() == 0);
}

TEST_CASE("a second writer of a block waits for the first one's copy, and makes none itself") {
  Frozen frozen;
  frozen.step->hold(IoOp::kRead);
  Request first(IoOp::kWrite, 0, kBlock, 8);
  Request second(IoOp::kWrite, 100, 100, 9);
  first.submit(frozen.device());
  second.submit(frozen.device());
  CHECK(frozen.step->held_count() == 1);
  CHECK_FALSE(first.is_done());
  CHECK_FALSE(second.is_done());
  CHECK(frozen.step->count(IoOp::kWrite) == 1);  // the one of the set-up
  frozen.step->release_all();
  CHECK(first.wait() == 0);
  CHECK(second.wait() == 0);
  CHECK(is_all(read_capture(*frozen.capture, 0, kBlock), 1));
  CHECK(frozen.capture->saved_bytes() == kBlock);
}

TEST_CASE("a writer waits for all frozen blocks it touches, its own copies and another's") {
  Frozen frozen;
  frozen.step->hold(IoOp::kRead);
  Request middle(IoOp::kWrite, 2 * kBlock, kBlock, 8);
  middle.submit(frozen.device());
  Request wide(IoOp::kWrite, 0, 6 * kBlock, 9);
  wide.submit(frozen.device());
  CHECK(frozen.step->held_count() == 3);  // block 2; then 0..1 and 3..5
  frozen.step->hold([](const IoRequest& request) {
    return request.op == IoOp::kRead && request.offset_bytes == UINT64_MAX;
  });
  CHECK_FALSE(wide.is_done());
  frozen.step->let_go();
  CHECK(middle.wait() == 0);
  CHECK(wide.wait() == 0);
  CHECK(is_all(read_capture(*frozen.capture, 0, 16 * kBlock), 1));
  CHECK(frozen.capture->saved_bytes() == 6 * kBlock);
}

TEST_CASE("a saved block is not saved again, a released one not at all") {
  Frozen frozen;
  write_blocks(frozen.device(), 0, 1, 8);
  frozen.capture->release(4 * kBlock, 2 * kBlock);
  const uint64_t reads = frozen.step->count(IoOp::kRead);
  write_blocks(frozen.device(), 0, 1, 9);
  write_blocks(frozen.device(), 4, 2, 9);
  write_blocks(frozen.device(), 100, 2, 9);  // never in the capture
  CHECK(frozen.step->count(IoOp::kRead) == reads);
  CHECK(frozen.capture->saved_bytes() == kBlock);
  CHECK(is_all(read_capture(*frozen.capture, 0, 4 * kBlock), 1));
}

TEST_CASE("T9: release rounds in, frees what was saved, and ends reading") {
  Frozen frozen;
  write_blocks(frozen.device(), 0, 8, 9);
  CHECK(frozen.memory_used() == 8 * kBlock);
  frozen.capture->release(1, 3 * kBlock);  // wholly inside: 1 and 2
  CHECK(frozen.memory_used() == 6 * kBlock);
  CHECK(read_code(*frozen.capture, kBlock, kBlock) == ErrorCode::kInvalidArgument);
  CHECK(read_code(*frozen.capture, 0, 4 * kBlock) == ErrorCode::kInvalidArgument);
  CHECK(is_all(read_capture(*frozen.capture, 0, kBlock), 1));
  CHECK(is_all(read_capture(*frozen.capture, 3 * kBlock, kBlock), 1));
  frozen.capture->release(0, UINT64_MAX);
  CHECK(frozen.memory_used() == 0);
}

TEST_CASE("a block released while it is copied keeps no memory") {
  Frozen frozen;
  frozen.step->hold(IoOp::kRead);
  Request write(IoOp::kWrite, 0, 2 * kBlock, 9);
  write.submit(frozen.device());
  frozen.capture->release(0, kBlock);
  Request second(IoOp::kWrite, 0, kBlock, 8);
  CHECK(second.submit(frozen.device()).wait() == 0);  // released: nothing to wait for
  frozen.step->release_all();
  CHECK(write.wait() == 0);
  CHECK(frozen.memory_used() == kBlock);
  CHECK(is_all(read_capture(*frozen.capture, kBlock, kBlock), 1));
}

TEST_CASE("released, broken or closed during a read, the read is refused, never newer") {
  Frozen frozen(memory_only(kBlock));
  Bytes content(2 * kBlock);
  const auto overwrite = [&](uint64_t block) { write_blocks(frozen.device(), block, 1, 9); };
  CHECK(read_two_while(frozen, content, [&] {
          frozen.capture->release(0, kBlock);
          overwrite(0);
        }) == ErrorCode::kInvalidArgument);

  Frozen breaking(memory_only(0));
  CHECK(read_two_while(breaking, content, [&] { write_blocks(breaking.device(), 0, 1, 9); }) ==
        ErrorCode::kCaptureBroken);

  Frozen closing;
  CHECK(read_two_while(closing, content, [&] {
          closing.capture->close();
          write_blocks(closing.device(), 0, 1, 9);
        }) == ErrorCode::kClosed);
}

TEST_CASE("outside of its blocks a capture reads nothing") {
  Frozen frozen;
  CHECK(read_code(*frozen.capture, 15 * kBlock, kBlock + 1) == ErrorCode::kInvalidArgument);
  CHECK(read_code(*frozen.capture, 100 * kBlock, 1) == ErrorCode::kInvalidArgument);
  CHECK(read_code(*frozen.capture, UINT64_MAX - 1, 2) == ErrorCode::kInvalidArgument);
  CHECK(read_code(*frozen.capture, kBlocks * kBlock, 1) == ErrorCode::kInvalidArgument);
  CHECK(read_code(*frozen.capture, 0, 0) == ErrorCode::kOk);
}

TEST_CASE("T20: a full store breaks the capture and not the write") {
  Frozen frozen(memory_only(2 * kBlock));
  write_blocks(frozen.device(), 0, 2, 9);
  CHECK_FALSE(frozen.capture->is_broken());
  write_blocks(frozen.device(), 2, 1, 9);
  CHECK(frozen.capture->is_broken());
  CHECK(frozen.capture->broken_reason() == "the capture store is full");
  CHECK(read_code(*frozen.capture, 8 * kBlock, kBlock) == ErrorCode::kCaptureBroken);
  const uint64_t reads = frozen.step->count(IoOp::kRead);
  write_blocks(frozen.device(), 8, 1, 9);  // nothing is saved any more
  CHECK(frozen.step->count(IoOp::kRead) == reads);
  frozen.capture->close();
  CHECK(frozen.memory_used() == 0);
  // The bits are kept: nothing is lost but the point.
  REQUIRE(frozen.disk.device->give_back(frozen.slot).is_ok());
  CHECK(extents_of(*checkpoint(frozen.disk.device, frozen.slot)) == "0+16");
}

TEST_CASE("released room is used again") {
  Frozen frozen(memory_only(2 * kBlock));
  for (uint64_t block = 0; block < 16; ++block) {
    write_blocks(frozen.device(), block, 1, 9);
    CHECK(is_all(read_capture(*frozen.capture, block * kBlock, kBlock), 1));
    frozen.capture->release(block * kBlock, kBlock);
  }
  CHECK_FALSE(frozen.capture->is_broken());
}

TEST_CASE("beyond its memory a capture spills to a file, and breaks when that is full") {
  ScratchDirectory scratch;
  Frozen frozen({.memory_bytes = 2 * kBlock,
                 .spill_path = scratch.path() + "/spill",
                 .spill_bytes = 6 * kBlock});
  CHECK(std::filesystem::is_empty(scratch.path()));  // unlinked at once
  write_blocks(frozen.device(), 0, 2, 9);            // memory
  write_blocks(frozen.device(), 2, 4, 9);            // four slots
  CHECK(frozen.memory_used() == 2 * kBlock);
  CHECK(is_all(read_capture(*frozen.capture, 0, 16 * kBlock), 1));
  CHECK(is_all(read_capture(*frozen.capture, 4 * kBlock + 5, kBlock), 1));
  frozen.capture->release(2 * kBlock, 4 * kBlock);
  write_blocks(frozen.device(), 6, 6, 9);  // two new slots and four used ones
  CHECK(is_all(read_capture(*frozen.capture, 6 * kBlock, 6 * kBlock), 1));
  CHECK_FALSE(frozen.capture->is_broken());
  write_blocks(frozen.device(), 12, 1, 9);
  CHECK(frozen.capture->is_broken());
  CHECK(content_of(frozen.device())[12 * kBlock] == std::byte{9});
}

TEST_CASE("a spill file that cannot be made refuses the checkpoint, and nothing changed") {
  ScratchDirectory scratch;
  const Disk disk = make_disk(scratch, make_memory_device(kBlocks * kBlock));
  const uint32_t slot = add_target(*disk.device);
  write_blocks(*disk.device, 0, 1, 1);
  const auto outcome =
      try_checkpoint(disk.device, slot, {.spill_path = scratch.path() + "/none/spill"});
  CHECK(outcome.status().code() == ErrorCode::kNotFound);
  CHECK(disk.bitmap->is_dirty(MapId::live(), 0));
  write_blocks(*disk.device, 1, 1, 1);
  CHECK(extents_of(*checkpoint(disk.device, slot)) == "0+2");
}

TEST_CASE("a saving read that fails breaks the capture and not the write") {
  Frozen frozen;
  frozen.step->hold(IoOp::kRead);
  Request first(IoOp::kWrite, 0, kBlock, 9);
  Request second(IoOp::kWrite, 0, 2 * kBlock, 9);
  first.submit(frozen.device());
  second.submit(frozen.device());
  frozen.step->let_go(EIO);
  CHECK(first.wait() == 0);
  CHECK(second.wait() == 0);
  CHECK(frozen.capture->is_broken());
  CHECK(frozen.capture->broken_reason().find("could not be read") != std::string::npos);
  frozen.step->release_all();
  CHECK(read_code(*frozen.capture, 8 * kBlock, kBlock) == ErrorCode::kCaptureBroken);
  CHECK(content_of(frozen.device())[0] == std::byte{9});
}

TEST_CASE("a read that fails answers its error and leaves the capture whole") {
  Frozen frozen;
  frozen.step->hold(IoOp::kRead);
  ErrorCode code = ErrorCode::kOk;
  std::thread reader([&] { code = read_code(*frozen.capture, 0, kBlock); });
  frozen.step->wait_for_held(1);
  frozen.step->let_go(EIO);
  reader.join();
  frozen.step->release_all();
  CHECK(code == ErrorCode::kIo);
  CHECK_FALSE(frozen.capture->is_broken());
  CHECK(is_all(read_capture(*frozen.capture, 0, kBlock), 1));
}

TEST_CASE("close ends saving, lets parked writes go on, and comes before commit") {
  Frozen frozen;
  CHECK(frozen.disk.device->commit(frozen.slot).code() == ErrorCode::kInUse);
  CHECK(frozen.disk.device->give_back(frozen.slot).code() == ErrorCode::kInUse);
  CHECK(frozen.disk.device->stage(frozen.slot).code() == ErrorCode::kInUse);
  CHECK(frozen.disk.device->remove_target(frozen.slot).code() == ErrorCode::kInUse);
  write_blocks(frozen.device(), 8, 1, 9);
  frozen.step->hold(IoOp::kRead);
  Request write(IoOp::kWrite, 0, kBlock, 9);
  write.submit(frozen.device());
  frozen.capture->close();
  frozen.capture->close();
  CHECK(frozen.memory_used() == kBlock);  // of the read still under way
  write_blocks(frozen.device(), 4, 1, 9);
  CHECK_FALSE(write.is_done());
  frozen.step->release_all();
  CHECK(write.wait() == 0);
  CHECK(frozen.memory_used() == 0);
  CHECK(frozen.capture->saved_bytes() == kBlock);
  CHECK(read_code(*frozen.capture, 4 * kBlock, kBlock) == ErrorCode::kClosed);
  CHECK(extents_of(*frozen.capture) == "");
  CHECK(frozen.disk.device->commit(frozen.slot).is_ok());
  CHECK(frozen.disk.device->remove_target(frozen.slot).is_ok());
}

TEST_CASE("a target goes only when no write can be looking at its maps any more") {
  Frozen frozen;
  frozen.step->hold(IoOp::kRead);
  Request write(IoOp::kWrite, 0, kBlock, 9);
  write.submit(frozen.device());
  frozen.capture->close();
  CHECK(frozen.disk.device->remove_target(frozen.slot).code() == ErrorCode::kTimedOut);
  write_blocks(frozen.device(), 4, 1, 9);
  frozen.step->release_all();
  CHECK(write.wait() == 0);
  CHECK(frozen.disk.device->remove_target(frozen.slot).is_ok());
  write_blocks(frozen.device(), 4, 1, 9);
}

TEST_CASE("a capture dropped without close ends too") {
  Frozen frozen;
  write_blocks(frozen.device(), 0, 1, 9);
  frozen.capture.reset();
  write_blocks(frozen.device(), 1, 1, 9);
  CHECK(frozen.disk.device->commit(frozen.slot).is_ok());
}

TEST_CASE("sixteen captures at a time each keep the content of their own cut") {
  ScratchDirectory scratch;
  const Disk disk = make_disk(scratch, make_memory_device(kBlocks * kBlock));
  std::vector<uint32_t> slots;
  for (uint32_t i = 0; i < kMaxTargets; ++i) slots.push_back(add_target(*disk.device));
  std::vector<std::shared_ptr<Capture>> captures;
  for (uint32_t i = 0; i < kMaxTargets; ++i) {
    write_blocks(*disk.device, i % 4, 4, static_cast<int>(i + 1));
    captures.push_back(checkpoint(disk.device, slots[i]));
  }
  std::vector<std::string> extents;
  for (const auto& capture : captures) extents.push_back(extents_of(*capture));
  write_blocks(*disk.device, 0, 8, 99);
  for (uint32_t i = 0; i < kMaxTargets; ++i) {
    CAPTURE(i);
    // A newer checkpoint of another target adds nothing to this capture.
    CHECK(extents_of(*captures[i]) == extents[i]);
    CHECK(is_all(read_capture(*captures[i], i % 4 * kBlock, 4 * kBlock), static_cast<int>(i + 1)));
  }
}

TEST_CASE("another target's checkpoint adds newer bits to pending, never to an open capture") {
  ScratchDirectory scratch;
  const Disk disk = make_disk(scratch, make_memory_device(kBlocks * kBlock));
  const uint32_t a = add_target(*disk.device);
  const uint32_t b = add_target(*disk.device);
  write_blocks(*disk.device, 0, 2, 1);
  const auto capture_a = checkpoint(disk.device, a);
  write_blocks(*disk.device, 1, 2, 2);
  const auto capture_b = checkpoint(disk.device, b);
  CHECK(extents_of(*capture_a) == "0+2");
  CHECK(extents_of(*capture_b) == "0+3");
  write_blocks(*disk.device, 0, 8, 3);
  CHECK(capture_a->saved_bytes() == 2 * kBlock);
  CHECK(capture_b->saved_bytes() == 3 * kBlock);
  CHECK(is_all(read_capture(*capture_a, 0, 2 * kBlock), 1));
  CHECK(is_all(read_capture(*capture_b, kBlock, 2 * kBlock), 2));
  capture_a->close();
  REQUIRE(disk.device->commit(a).is_ok());
  CHECK(extents_of(*checkpoint(disk.device, a)) == "0+8");
}

TEST_CASE("T19: a huge trim saves window by window, not all at once") {
  ScratchDirectory scratch;
  constexpr uint64_t kDiskBytes = 16ULL << 20;
  auto step = std::make_shared<StepDevice>(make_memory_device(kDiskBytes));
  const Disk disk = make_disk(scratch, step);
  const uint32_t slot = add_target(*disk.device);
  REQUIRE(write_sync(*disk.device, 0, filled(kDiskBytes, 1)).is_ok());
  const auto capture = checkpoint(disk.device, slot);
  step->hold(IoOp::kRead);
  IoRequest request;
  request.op = IoOp::kTrim;
  request.length_bytes = kDiskBytes;
  std::atomic<int> error{-1};
  request.push([](IoRequest&, void* context, uint64_t,
                  int result) noexcept { static_cast<std::atomic<int>*>(context)->store(result); },
               &error);
  disk.device->submit(request);
  for (int window = 0; window < 4; ++window) {
    CHECK(error.load() == -1);
    CHECK(step->held_count() == 16);  // of 256 KiB each
    step->let_go();
  }
  CHECK(error.load() == 0);
  step->release_all();
  CHECK(is_all(content_of(*disk.device), 0));
  CHECK(is_all(read_capture(*capture, 0, kDiskBytes), 1));
}

TEST_CASE("blocks larger than the write are saved whole, in the backing's own units") {
  ScratchDirectory scratch;
  constexpr uint64_t kCoarse = 65536;
  auto step = std::make_shared<StepDevice>(make_memory_device(4 * kCoarse + kBlock));
  const Disk disk = make_disk(scratch, step, kCoarse);
  const uint32_t slot = add_target(*disk.device);
  REQUIRE(write_sync(*disk.device, 0, filled(4 * kCoarse + kBlock, 1)).is_ok());
  step->set_minimum_block_bytes(512);
  const auto capture = checkpoint(disk.device, slot);
  REQUIRE(write_sync(*disk.device, kCoarse + kBlock, filled(kBlock, 9)).is_ok());
  REQUIRE(write_sync(*disk.device, 4 * kCoarse, filled(512, 9)).is_ok());
  CHECK(capture->saved_bytes() == 2 * kCoarse);
  CHECK(is_all(read_capture(*capture, 3, 4 * kCoarse), 1));
  CHECK(is_all(read_capture(*capture, 0, 4 * kCoarse + kBlock), 1));
  CHECK(is_all(read_capture(*capture, 4 * kCoarse + 1, 3), 1));
}
