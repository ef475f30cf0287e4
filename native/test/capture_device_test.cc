// CaptureDevice: what a backup tool reads is the disk at the cut, all of it.
#include "tracking/capture_device.h"

#include <doctest/doctest.h>

#include <cerrno>

#include "tracking/target_id.h"
#include "tracking_support.h"

using namespace tidemark;
using namespace tidemark::tracking_test;

namespace {

constexpr uint64_t kBlocks = 128;
constexpr uint64_t kDiskBytes = kBlocks * kBlock;
constexpr const char* kContext = "qemu:dirty-bitmap:nightly";

// Memory that reports as holes which of its blocks are zero at this moment.
class SparseDevice final : public BlockDevice {
 public:
  uint64_t size_bytes() const noexcept override { return memory_->size_bytes(); }
  const DeviceTraits& traits() const noexcept override { return memory_->traits(); }
  void submit(IoRequest& request) noexcept override { memory_->submit(request); }
  Status query_extents(std::string_view /*context*/, uint64_t offset_bytes, uint64_t length_bytes,
                       size_t max_extents, std::vector<DeviceExtent>& extents) override {
    const uint64_t end = offset_bytes + length_bytes;
    while (offset_bytes < end && max_extents-- > 0) {
      const uint64_t length = std::min(kBlock - offset_bytes % kBlock, end - offset_bytes);
      Bytes content(length);
      if (Status status = read_sync(*memory_, offset_bytes, content); !status.is_ok()) {
        return status;
      }
      extents.push_back({length, is_all(content, 0) ? kExtentHole | kExtentZero : 0});
      offset_bytes += length;
    }
    return Status::ok();
  }

 private:
  const std::shared_ptr<BlockDevice> memory_ = make_memory_device(kDiskBytes);
};

struct Scene {
  explicit Scene(CaptureScope scope = CaptureScope::kWholeDisk, const CaptureLimits& limits = {}) {
    write_blocks(*disk.device, 10, 30, 1);
    take(CaptureScope::kChanged);
    end();
    write_blocks(*disk.device, 20, 4, 2);
    at_cut = content_of(*disk.device);
    take(scope, limits);
    device = make_capture_device(capture, "nightly");
  }

  void take(CaptureScope scope, const CaptureLimits& limits = {}) {
    const CheckpointMember member{disk.device, slot, limits, scope};
    auto outcome = take_checkpoint({&member, 1}, {std::chrono::seconds(30)});
    REQUIRE_MESSAGE(outcome.is_ok(), outcome.status().message());
    capture = outcome.value().captures.at(0);
  }
  void end() {
    capture->close();
    REQUIRE(disk.device->commit(slot).is_ok());
  }

  int read_error(uint64_t block) {
    Request read(IoOp::kRead, block * kBlock, kBlock);
    return read.submit(*device).wait();
  }

  ScratchDirectory scratch;
  Disk disk = make_disk(scratch, std::make_shared<SparseDevice>());
  uint32_t slot = add_target(*disk.device, target_id_of("nightly"));
  Bytes at_cut;
  std::shared_ptr<Capture> capture;
  std::shared_ptr<BlockDevice> device;
};

struct Run {
  uint64_t first;
  uint64_t count;
  uint32_t flags;
};

// Asked in steps of `max_extents`; adjacent runs of equal flags are one.
std::vector<Run> runs_of(BlockDevice& device, std::string_view context, size_t max_extents) {
  std::vector<Run> runs;
  for (uint64_t at = 0; at < kDiskBytes;) {
    std::vector<DeviceExtent> extents;
    REQUIRE(device.query_extents(context, at, kDiskBytes - at, max_extents, extents).is_ok());
    REQUIRE(!extents.empty());
    REQUIRE(extents.size() <= max_extents);
    for (const DeviceExtent& extent : extents) {
      const Run run{at / kBlock, extent.length_bytes / kBlock, extent.flags};
      at += extent.length_bytes;
      if (!runs.empty() && runs.back().flags == run.flags) {
        runs.back().count += run.count;
      } else {
        runs.push_back(run);
      }
    }
    REQUIRE(at <= kDiskBytes);
  }
  return runs;
}

bool is_zero_block(const Bytes& content, uint64_t block) {
  const auto* const at = content.data() + block * kBlock;
  return is_all(Bytes(at, at + kBlock), 0);
}

}  // namespace

TEST_CASE("all of the disk is read as it was at the cut, changed since the last one or not") {
  Scene scene;
  write_blocks(*scene.disk.device, 0, kBlocks, 9);
  CHECK(content_of(*scene.device) == scene.at_cut);
  Request trim(IoOp::kTrim, 0, kDiskBytes);
  CHECK(trim.submit(*scene.disk.device).wait() == 0);
  CHECK(content_of(*scene.device) == scene.at_cut);
  CHECK(extents_of(*scene.capture) == "20+4");
}

TEST_CASE("in the scope of the changes only they are frozen, and other reads are refused") {
  Scene scene(CaptureScope::kChanged);
  write_blocks(*scene.disk.device, 0, kBlocks, 9);
  CHECK(scene.capture->saved_bytes() == 4 * kBlock);
  for (uint64_t block = 0; block < kBlocks; ++block) {
    CHECK(scene.read_error(block) == (block >= 20 && block < 24 ? 0 : EINVAL));
  }
}

TEST_CASE("writes are refused, flushes and hints are nothing") {
  Scene scene;
  for (const IoOp op : {IoOp::kWrite, IoOp::kTrim, IoOp::kWriteZeroes}) {
    Request request(op, 0, kBlock, 7);
    CHECK(request.submit(*scene.device).wait() == EROFS);
  }
  CHECK(scene.device->traits().read_only);
  Request flush(IoOp::kFlush, 0, 0);
  CHECK(flush.submit(*scene.device).wait() == 0);
  CHECK(content_of(*scene.disk.device) == scene.at_cut);
}

TEST_CASE("the dirty context is the cut's, by name and by UUID, whatever is written later") {
  Scene scene;
  write_blocks(*scene.disk.device, 60, 8, 9);
  for (const size_t max_extents : {size_t{1}, size_t{2}, size_t{100}}) {
    const auto runs = runs_of(*scene.device, kContext, max_extents);
    REQUIRE(runs.size() == 3);
    CHECK((runs[0].first == 0 && runs[0].count == 20 && runs[0].flags == 0));
    CHECK((runs[1].first == 20 && runs[1].count == 4 && runs[1].flags == kExtentDirty));
    CHECK((runs[2].first == 24 && runs[2].count == kBlocks - 24 && runs[2].flags == 0));
  }
  CHECK(scene.device->extent_contexts() == std::vector<std::string>{"base:allocation", kContext});
  CHECK(scene.device->resolve_context(kContext) == kContext);
  const std::string by_id = "qemu:dirty-bitmap:" + target_id_of("nightly").to_string();
  CHECK(scene.device->resolve_context(by_id) == kContext);
  CHECK(scene.device->resolve_context("qemu:dirty-bitmap:live").empty());
  std::vector<DeviceExtent> extents;
  CHECK(scene.device->query_extents("other", 0, kBlock, 1, extents).code() == ErrorCode::kNotFound);
}

TEST_CASE("T12: a capture that is closed answers no more, least of all that nothing changed") {
  Scene scene;
  scene.capture->close();
  std::vector<DeviceExtent> extents;
  for (const char* context : {kContext, "base:allocation"}) {
    CHECK(scene.device->query_extents(context, 0, kDiskBytes, 8, extents).code() ==
          ErrorCode::kClosed);
  }
  CHECK(scene.read_error(20) == ESHUTDOWN);
}

TEST_CASE("T20: a full store breaks the capture: reads fail, and so does what knows holes") {
  CaptureLimits limits;
  limits.memory_bytes = 2 * kBlock;
  Scene scene(CaptureScope::kWholeDisk, limits);
  write_blocks(*scene.disk.device, 50, 3, 9);
  CHECK(scene.capture->is_broken());
  CHECK(scene.read_error(0) == EIO);
  std::vector<DeviceExtent> extents;
  CHECK(scene.device->query_extents("base:allocation", 0, kDiskBytes, 8, extents).code() ==
        ErrorCode::kCaptureBroken);
  scene.capture->close();
  REQUIRE(scene.disk.device->give_back(scene.slot).is_ok());
  scene.take(CaptureScope::kWholeDisk);
  CHECK(extents_of(*scene.capture) == "20+4 50+3");
}

TEST_CASE("what is reported as a hole was zero at the cut, whatever comes and goes since") {
  std::mt19937_64 random(7);
  uint64_t holes_seen = 0;
  for (int round = 0; round < 50; ++round) {
    Scene scene;
    for (int step = 0; step < 12; ++step) {
      const uint64_t first = random() % kBlocks;
      const uint64_t count = 1 + random() % std::min<uint64_t>(8, kBlocks - first);
      write_blocks(*scene.disk.device, first, count, random() % 2 == 0 ? 0 : 5);
      for (const Run& run : runs_of(*scene.device, "base:allocation", 1 + random() % 9)) {
        if ((run.flags & kExtentZero) == 0) continue;
        for (uint64_t block = run.first; block < run.first + run.count; ++block) {
          CHECK(is_zero_block(scene.at_cut, block));
          ++holes_seen;
        }
      }
    }
  }
  CHECK(holes_seen > 10'000);
}

TEST_CASE("readers of the whole disk see nothing newer while writers run") {
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    Scene scene;
    std::atomic<bool> is_ending{false};
    std::vector<std::thread> writers;
    for (uint64_t writer = 0; writer < 2; ++writer) {
      writers.emplace_back([&, writer] {
        std::mt19937_64 random(seed * 10 + writer);
        while (!is_ending) {
          Request write(IoOp::kWrite, random() % (kBlocks - 2) * kBlock + random() % 4096,
                        1 + random() % kBlock, 9);
          if (write.submit(*scene.disk.device).wait() != 0) std::abort();
        }
      });
    }
    for (int pass = 0; pass < 20; ++pass) CHECK(content_of(*scene.device) == scene.at_cut);
    is_ending = true;
    for (std::thread& writer : writers) writer.join();
  }
}
