// Growing a tracked disk: under writes, with captures, and when something is in
// the way.
#include <algorithm>

#include "tracking_load.h"

using namespace tidemark;
using namespace tidemark::tracking_test;

namespace {

constexpr uint64_t kBlocks = 64;

// Passes a growth on, unlike the other devices of these tests.
class GrowingStepDevice final : public BlockDevice {
 public:
  explicit GrowingStepDevice(uint64_t size_bytes)
      : memory_(make_memory_device(size_bytes)), steps_(memory_) {}
  uint64_t size_bytes() const noexcept override { return memory_->size_bytes(); }
  const DeviceTraits& traits() const noexcept override { return memory_->traits(); }
  void submit(IoRequest& request) noexcept override { steps_.submit(request); }
  Status resize(uint64_t size_bytes) override {
    if (is_full) return {ErrorCode::kNoSpace, "no room"};
    return memory_->resize(size_bytes);
  }
  StepDevice& steps() { return steps_; }

  bool is_full = false;

 private:
  const std::shared_ptr<BlockDevice> memory_;
  StepDevice steps_;
};

struct Scene {
  ScratchDirectory scratch;
  std::shared_ptr<GrowingStepDevice> backing =
      std::make_shared<GrowingStepDevice>(kBlocks * kBlock);
  Disk disk = make_disk(scratch, backing);
  uint32_t slot = add_target(*disk.device, Uuid::random());

  TrackedDevice& device() { return *disk.device; }
  std::shared_ptr<Capture> capture() { return checkpoint(disk.device, slot); }
};

// What a target holds that applied every capture; grows with the captures.
void apply(Capture& capture, Bytes& replica) {
  replica.resize(capture.disk_size_bytes());
  for (uint64_t from = 0; const auto extent = capture.next_extent(from, 1 << 20);) {
    const Bytes content = read_capture(capture, extent->offset_bytes, extent->length_bytes);
    std::copy(content.begin(), content.end(),
              replica.begin() + static_cast<ptrdiff_t>(extent->offset_bytes));
    from = extent->offset_bytes + extent->length_bytes;
  }
}

}  // namespace

TEST_CASE("T11: what a disk grew by is in the next capture, and in no later one") {
  Scene scene;
  write_blocks(scene.device(), 3, 1, 7);
  REQUIRE(scene.device().resize((kBlocks + 10) * kBlock).is_ok());
  CHECK(scene.device().size_bytes() == (kBlocks + 10) * kBlock);
  CHECK(scene.disk.bitmap->disk_size_bytes() == (kBlocks + 10) * kBlock);
  auto first = scene.capture();
  CHECK(extents_of(*first) == "3+1 64+10");
  CHECK(first->disk_size_bytes() == (kBlocks + 10) * kBlock);
  first->close();
  REQUIRE(scene.device().commit(scene.slot).is_ok());
  write_blocks(scene.device(), kBlocks + 9, 1, 8);
  CHECK(extents_of(*scene.capture()) == "73+1");
}

TEST_CASE("a disk with an open checkpoint is not resized, and is once that has ended") {
  Scene scene;
  auto capture = scene.capture();
  CHECK(scene.device().resize(2 * kBlocks * kBlock).code() == ErrorCode::kInUse);
  CHECK(scene.backing->size_bytes() == kBlocks * kBlock);
  capture->close();
  CHECK(scene.device().resize(2 * kBlocks * kBlock).is_ok());
  CHECK(scene.device().resize(kBlocks * kBlock).code() == ErrorCode::kInvalidArgument);
}

TEST_CASE("a write beyond the size is refused until the disk has it") {
  Scene scene;
  const auto write = [&] {
    return Request(IoOp::kWrite, kBlocks * kBlock, kBlock, 1).submit(scene.device()).wait();
  };
  CHECK(write() == EINVAL);
  REQUIRE(scene.device().resize((kBlocks + 1) * kBlock).is_ok());
  CHECK(write() == 0);
}

TEST_CASE("a backing that cannot grow leaves the disk as it was") {
  Scene scene;
  scene.backing->is_full = true;
  CHECK(scene.device().resize(2 * kBlocks * kBlock).code() == ErrorCode::kNoSpace);
  CHECK(scene.device().size_bytes() == kBlocks * kBlock);
  CHECK(scene.disk.bitmap->disk_size_bytes() == kBlocks * kBlock);
}

TEST_CASE("a write that does not end stops the growth in time, and the next call goes on") {
  Scene scene;
  scene.backing->steps().hold(IoOp::kWrite);
  Request stuck(IoOp::kWrite, 0, kBlock, 1);
  stuck.submit(scene.device());
  CHECK(scene.device().resize(2 * kBlocks * kBlock).code() == ErrorCode::kTimedOut);
  CHECK(scene.device().size_bytes() == kBlocks * kBlock);
  scene.backing->steps().release_all();
  CHECK(stuck.wait() == 0);
  write_blocks(scene.device(), 1, 1, 2);
  CHECK(scene.device().resize(2 * kBlocks * kBlock).is_ok());
  CHECK(extents_of(*scene.capture()) == "0+2 64+64");
}

TEST_CASE("T11: writers, extent queries, checkpoints and growths at once: every cut is whole") {
  constexpr int kGrowths = 30;
  Scene scene;
  std::atomic<bool> is_ending{false};
  std::atomic<int> failures{0};
  std::vector<std::thread> threads;
  for (uint64_t writer = 0; writer < 2; ++writer) {
    threads.emplace_back([&, writer] {
      std::mt19937_64 random(writer);
      while (!is_ending.load()) {
        const uint64_t block = random() % (scene.device().size_bytes() / kBlock);
        const Bytes content = filled(kBlock, static_cast<int>(random() % 255 + 1));
        if (!write_sync(scene.device(), block * kBlock, content).is_ok()) ++failures;
      }
    });
  }
  threads.emplace_back([&] {
    while (!is_ending.load()) {
      std::vector<DeviceExtent> extents;
      const uint64_t size = scene.device().size_bytes();
      for (const std::string& context : scene.device().extent_contexts()) {
        if (!scene.device().query_extents(context, 0, size, 99, extents).is_ok()) ++failures;
      }
    }
  });
  Bytes replica;
  for (uint64_t i = 1; i <= kGrowths; ++i) {
    Status grown = scene.device().resize((kBlocks + i) * kBlock);
    REQUIRE_MESSAGE(grown.is_ok(), grown.message());
    auto capture = scene.capture();
    apply(*capture, replica);
    capture->close();
    REQUIRE(scene.device().commit(scene.slot).is_ok());
  }
  is_ending.store(true);
  for (std::thread& thread : threads) thread.join();
  CHECK(failures.load() == 0);
  apply(*scene.capture(), replica);
  CHECK(replica == content_of(scene.device()));
}
