// T11: a disk that is cut drops what was marked past its end, and nothing else; one that
// grows again has all of that changed.
#include <signal.h>
#include <sys/wait.h>

#include <fstream>

#include "bitmap_support.h"
#include "common/failpoint.h"
#include "device/file_device.h"
#include "device/shrinkable_device.h"
#include "tracking_load.h"

using namespace tidemark;
using namespace tidemark::tracking_test;
using tidemark::create_bitmap;
using tidemark::open_bitmap;

namespace {

constexpr uint64_t kBlocks = 64;

std::set<uint64_t> up_to(const std::set<uint64_t>& blocks, uint64_t block_count) {
  return {blocks.begin(), blocks.lower_bound(block_count)};
}

// Passes resizes on, and can hold requests.
class CuttableStepDevice final : public BlockDevice, public ShrinkableDevice {
 public:
  CuttableStepDevice() : memory_(make_memory_device(kBlocks * kBlock)), steps_(memory_) {}
  uint64_t size_bytes() const noexcept override { return memory_->size_bytes(); }
  const DeviceTraits& traits() const noexcept override { return memory_->traits(); }
  void submit(IoRequest& request) noexcept override { steps_.submit(request); }
  Status resize(uint64_t size_bytes) override { return memory_->resize(size_bytes); }
  Status shrink(uint64_t size_bytes) override {
    if (is_stubborn) return {ErrorCode::kIo, "it does not"};
    return dynamic_cast<ShrinkableDevice&>(*memory_).shrink(size_bytes);
  }
  StepDevice& steps() { return steps_; }

  bool is_stubborn = false;

 private:
  const std::shared_ptr<BlockDevice> memory_;
  StepDevice steps_;
};

struct Scene {
  ScratchDirectory scratch;
  std::shared_ptr<CuttableStepDevice> backing = std::make_shared<CuttableStepDevice>();
  Disk disk = make_disk(scratch, backing);
  uint32_t slot = tracking_test::add_target(*disk.device);

  TrackedDevice& device() { return *disk.device; }
  std::shared_ptr<Capture> capture() { return checkpoint(disk.device, slot); }
  // One cycle; answers what travelled.
  std::string deliver(Bytes& replica) {
    auto capture_now = capture();
    replica.resize(capture_now->disk_size_bytes());
    for (uint64_t from = 0; const auto extent = capture_now->next_extent(from, 1 << 20);) {
      const Bytes content = read_capture(*capture_now, extent->offset_bytes, extent->length_bytes);
      std::copy(content.begin(), content.end(),
                replica.begin() + static_cast<ptrdiff_t>(extent->offset_bytes));
      from = extent->offset_bytes + extent->length_bytes;
    }
    const std::string extents = extents_of(*capture_now);
    capture_now->close();
    REQUIRE(device().commit(slot).is_ok());
    return extents;
  }
};

}  // namespace

namespace {

// Every second block, and the blocks around the cut.
std::set<uint64_t> blocks_to_mark(uint64_t block_count, uint64_t cut) {
  std::set<uint64_t> marked;
  for (uint64_t block = 0; block < block_count; block += 2) marked.insert(block);
  marked.insert((cut - 1) / kBlock);
  if (cut / kBlock < block_count) marked.insert(cut / kBlock);
  return marked;
}

void check_cut_maps(const DirtyBitmap& bitmap, const std::set<uint64_t>& marked) {
  const auto left = up_to(marked, bitmap.block_count());
  CHECK(blocks_of(bitmap, MapId::pending(0)) == left);
  CHECK(blocks_of(bitmap, MapId::suspect(0)) == left);
  CHECK(blocks_of(bitmap, MapId::live()) == left);
}

void check_cut(uint64_t size, uint64_t cut) {
  CAPTURE(size);
  CAPTURE(cut);
  TempDirectory directory(memory_directory());
  const std::string path = directory.file("b");
  auto bitmap = create_bitmap(path, size);
  const uint32_t slot = tidemark::add_target(*bitmap, kReplicaA);
  const std::set<uint64_t> marked = blocks_to_mark(bitmap->block_count(), cut);
  for (const uint64_t block : marked) {
    bitmap->mark_pending(slot, block * kBlock, 1);
    bitmap->mark(block * kBlock, 1);
    require_ok(bitmap->mark_suspect(slot, block * kBlock, 1, SuspicionCause::kOrdered));
  }
  require_ok(bitmap->begin_shrink(cut));
  // Past the new end: not a mark of the smaller one.
  if ((size - 1) / kBlock != (cut - 1) / kBlock) bitmap->mark(size - 1, 1);
  require_ok(bitmap->finish_growth());
  CHECK(bitmap->disk_size_bytes() == cut);
  CHECK(bitmap->block_count() == (cut - 1) / kBlock + 1);
  check_cut_maps(*bitmap, marked);
  require_ok(bitmap->close());
  bitmap.reset();
  bitmap = open_bitmap(path, cut);
  CHECK(bitmap->opened_clean());
  check_cut_maps(*bitmap, marked);
  require_ok(bitmap->close());
  CHECK(open_error(path, cut - 1) == ErrorCode::kForeign);  // T14: cut behind our back
}

}  // namespace

TEST_CASE(
    "T10, T11: every map is cut at the new end, whatever the sizes, and can be opened again") {
  constexpr uint64_t kPage = 32768 * kBlock;
  for (const uint64_t size : {3 * kPage + 513, 2 * kPage, 70 * kBlock, uint64_t{5000}}) {
    for (const uint64_t cut : {uint64_t{1}, uint64_t{511}, kBlock - 1, kBlock, kBlock + 1,
                               kPage - 1, kPage, kPage + 1, size - 1}) {
      if (cut < size) check_cut(size, cut);
    }
  }
}

TEST_CASE(
    "T11: a shrunk disk has no block past its end, and regrown all of it is changed and zero") {
  Scene scene;
  Bytes replica;
  write_blocks(scene.device(), 0, kBlocks, 7);
  CHECK(scene.deliver(replica) == "0+64");
  write_blocks(scene.device(), 5, 1, 8);
  write_blocks(scene.device(), 60, 1, 8);
  const uint64_t cut = 40 * kBlock + 100;
  REQUIRE(scene.device().shrink(cut).is_ok());
  CHECK(scene.device().size_bytes() == cut);
  for (const IoOp op : {IoOp::kWrite, IoOp::kRead, IoOp::kTrim}) {
    CHECK(Request(op, cut, 1, 1).submit(scene.device()).wait() == EINVAL);
    CHECK(Request(op, cut - 1, 2, 1).submit(scene.device()).wait() == EINVAL);
  }
  CHECK(scene.deliver(replica) == "5+1");
  CHECK(replica == content_of(scene.device()));
  REQUIRE(scene.device().resize(50 * kBlock).is_ok());
  Bytes stale = filled(50 * kBlock, 7);  // as layers of a larger disk have it
  std::copy(replica.begin(), replica.end(), stale.begin());
  CHECK(scene.deliver(stale) == "40+10");
  CHECK(stale == content_of(scene.device()));
  CHECK(stale[cut] == std::byte{0});
}

TEST_CASE(
    "a disk is not cut while a checkpoint is open, to nothing, to more, or where it cannot be") {
  Scene scene;
  auto capture = scene.capture();
  CHECK(scene.device().shrink(kBlock).code() == ErrorCode::kInUse);
  capture->close();
  CHECK(scene.device().shrink(0).code() == ErrorCode::kInvalidArgument);
  CHECK(scene.device().shrink(kBlocks * kBlock).code() == ErrorCode::kInvalidArgument);
  const ScratchDirectory scratch;
  const Disk fixed =
      make_disk(scratch, std::make_shared<StepDevice>(make_memory_device(kBlock * 4)));
  CHECK(fixed.device->shrink(kBlock).code() == ErrorCode::kUnsupported);
  CHECK(fixed.device->size_bytes() == 4 * kBlock);
}

TEST_CASE(
    "a write past the new end that does not end stops the cut in time, and the next call goes on") {
  Scene scene;
  scene.backing->steps().hold(IoOp::kWrite);
  Request stuck(IoOp::kWrite, 60 * kBlock, kBlock, 1);
  stuck.submit(scene.device());
  CHECK(scene.device().shrink(8 * kBlock).code() == ErrorCode::kTimedOut);
  CHECK(scene.device().size_bytes() == kBlocks * kBlock);
  scene.backing->steps().release_all();
  CHECK(stuck.wait() == 0);
  REQUIRE(scene.device().shrink(8 * kBlock).is_ok());
  write_blocks(scene.device(), 2, 1, 2);
  CHECK(extents_of(*scene.capture()) == "2+1");
}

TEST_CASE("a backing that is not cut leaves a disk of the old size, its end changed") {
  Scene scene;
  write_blocks(scene.device(), 60, 1, 7);
  scene.backing->is_stubborn = true;
  CHECK(scene.device().shrink(40 * kBlock).code() == ErrorCode::kIo);
  CHECK(scene.device().size_bytes() == kBlocks * kBlock);
  CHECK(content_of(scene.device())[60 * kBlock] == std::byte{7});
  CHECK(extents_of(*scene.capture()) == "40+24");
}

TEST_CASE("T11: killed at any step of a cut, the next open has every mark, or the cut") {
  for (const char* name : {"bitmap.grow.begun", "bitmap.grow.merged", "bitmap.grow.renamed",
                           "bitmap.grow.finished", "shrink.bitmap", "shrink.backing"}) {
    CAPTURE(name);
    const TempDirectory directory;
    const std::string image = directory.file("disk");
    const std::string path = directory.file("b");
    std::ofstream(image).close();
    std::filesystem::resize_file(image, kBlocks * kBlock);
    {
      auto bitmap = create_bitmap(path, kBlocks * kBlock);
      tidemark::add_target(*bitmap, kReplicaA);
      require_ok(bitmap->close());
    }
    const pid_t child = ::fork();
    if (child == 0) {
      ::setenv("TIDEMARK_FAILPOINT", (std::string(name) + ":1").c_str(), 1);
      arm_failpoints_from_environment();
      FileDeviceParameters parameters;
      parameters.path = image;
      auto backing = open_file_device(parameters).value();
      std::shared_ptr<DirtyBitmap> bitmap = open_bitmap(path, kBlocks * kBlock);
      TrackedDevice device(backing, bitmap);
      (void)write_sync(device, 5 * kBlock, filled(kBlock, 1));
      (void)write_sync(device, 60 * kBlock, filled(kBlock, 1));
      (void)device.shrink(40 * kBlock);
      ::_exit(0);
    }
    int state = 0;
    REQUIRE(::waitpid(child, &state, 0) == child);
    REQUIRE(WIFSIGNALED(state));
    const uint64_t size = std::filesystem::file_size(image);
    CHECK((size == kBlocks * kBlock || size == 40 * kBlock));
    const auto bitmap = open_bitmap(path, size);
    CHECK(bitmap->is_dirty(MapId::pending(0), 5));
    if (size == kBlocks * kBlock) CHECK(bitmap->is_dirty(MapId::pending(0), 60));
    CHECK(bitmap->dirty_block_count(MapId::suspect(0)) == 0);
  }
}

TEST_CASE("T11: writers, checkpoints, cuts and growths at once: every cut is whole") {
  constexpr uint64_t kRounds = 30;
  Scene scene;
  std::atomic<bool> is_ending{false};
  std::atomic<int> failures{0};
  std::vector<std::thread> threads;
  for (uint64_t writer = 0; writer < 2; ++writer) {
    threads.emplace_back([&, writer] {
      std::mt19937_64 random(writer);
      while (!is_ending.load()) {
        const uint64_t block = random() % kBlocks;
        const Bytes content = filled(kBlock, static_cast<int>(random() % 255 + 1));
        const Status status = write_sync(scene.device(), block * kBlock, content);
        if (!status.is_ok() && status.sys_errno() != EINVAL) ++failures;
      }
    });
  }
  Bytes replica;
  std::mt19937_64 random(3);
  for (uint64_t i = 0; i < kRounds; ++i) {
    const Status cut = scene.device().shrink((kBlocks / 2 + random() % 20) * kBlock);
    REQUIRE_MESSAGE(cut.is_ok(), cut.message());
    (void)scene.deliver(replica);
    replica.resize(kBlocks * kBlock, std::byte{0xee});
    REQUIRE(scene.device().resize(kBlocks * kBlock).is_ok());
    (void)scene.deliver(replica);
  }
  is_ending.store(true);
  for (std::thread& thread : threads) thread.join();
  CHECK(failures.load() == 0);
  (void)scene.deliver(replica);
  CHECK(replica == content_of(scene.device()));
}
