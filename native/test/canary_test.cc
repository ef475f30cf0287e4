// T13: a running disk finds out that its tracking is not alive.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "device/file_device.h"
#include "tracking/tracked_device_impl.h"
#include "tracking_support.h"

using namespace tidemark;
using namespace tidemark::tracking_test;

namespace {

constexpr uint64_t kDiskBytes = 64 * kBlock;

// Its stamp moves with each write, when the write is applied.
class StampedDevice final : public BlockDevice {
 public:
  explicit StampedDevice(std::shared_ptr<BlockDevice> inner) : inner_(std::move(inner)) {}
  uint64_t size_bytes() const noexcept override { return inner_->size_bytes(); }
  const DeviceTraits& traits() const noexcept override { return inner_->traits(); }
  void submit(IoRequest& request) noexcept override {
    if (request.is_write_class()) ++stamp;
    inner_->submit(request);
  }
  Status resize(uint64_t size_bytes) override {
    ++stamp;
    return inner_->resize(size_bytes);
  }
  Result<BackingFacts> facts() const override {
    BackingFacts facts;
    facts.write_stamp = stamp.load();
    facts.counts_what_arrived = counts_what_arrived;
    return facts;
  }

  std::atomic<uint64_t> stamp{1};
  std::atomic<bool> counts_what_arrived{false};

 private:
  const std::shared_ptr<BlockDevice> inner_;
};

// Without threads: looks when it is told.
struct Scene {
  explicit Scene(std::shared_ptr<BlockDevice> backing) {
    DirtyBitmap::Parameters parameters;
    parameters.disk = Uuid::random();
    parameters.disk_size_bytes = backing->size_bytes();
    auto made = DirtyBitmap::create(scratch.path() + "/bitmap", parameters);
    REQUIRE(made.is_ok());
    bitmap = std::move(made).value();
    device = std::make_shared<TrackedDevice>(backing, bitmap, std::chrono::milliseconds(0));
    slot = add_target(*device);
    other_slot = add_target(*device);
  }

  void look() const { device->impl().quiet_down().look_at_backing(); }
  uint64_t suspect_blocks() const { return bitmap->dirty_block_count(MapId::suspect(slot)); }
  bool has_cause(SuspicionCause cause) const {
    return (bitmap->suspicion_causes(slot) & static_cast<SuspicionCauses>(cause)) != 0 &&
           (bitmap->suspicion_causes(other_slot) & static_cast<SuspicionCauses>(cause)) != 0;
  }

  ScratchDirectory scratch;
  std::shared_ptr<DirtyBitmap> bitmap;
  std::shared_ptr<TrackedDevice> device;
  uint32_t slot = 0;
  uint32_t other_slot = 0;
};

// Loses what was marked since the last cut, as a tracker would that is not in the path.
void lose_marks(DirtyBitmap& bitmap) {
  bitmap.flip();
  REQUIRE(bitmap.merge_closed().is_ok());
  for (const auto& target : bitmap.targets()) {
    bitmap.clear_pending(target.slot, 0, bitmap.disk_size_bytes());
  }
}

}  // namespace

TEST_CASE("T13: a known write that is in no map breaks the cut, and all is suspect") {
  Scene scene(make_memory_device(kDiskBytes));
  write_blocks(*scene.device, 7, 1, 1);
  checkpoint(scene.device, scene.slot)->close();
  REQUIRE(scene.device->commit(scene.slot).is_ok());
  CHECK(scene.suspect_blocks() == 0);

  write_blocks(*scene.device, 9, 1, 2);
  lose_marks(*scene.bitmap);
  const auto cut = try_checkpoint(scene.device, scene.slot);
  CHECK(cut.status().code() == ErrorCode::kIo);
  CHECK(cut.status().message().find("was not marked") != std::string::npos);
  CHECK(scene.suspect_blocks() == kDiskBytes / kBlock);
  CHECK(scene.has_cause(SuspicionCause::kUnmarkedWrite));
  // The next one takes all of it along.
  const auto capture = checkpoint(scene.device, scene.slot);
  CHECK(capture->dirty_bytes() == kDiskBytes);
}

TEST_CASE("T13: the map of every target is asked") {
  Scene scene(make_memory_device(kDiskBytes));
  write_blocks(*scene.device, 9, 1, 2);
  scene.bitmap->flip();
  REQUIRE(scene.bitmap->merge_closed().is_ok());
  scene.bitmap->clear_pending(scene.other_slot, 0, kDiskBytes);
  CHECK_FALSE(try_checkpoint(scene.device, scene.slot).is_ok());
  CHECK(scene.has_cause(SuspicionCause::kUnmarkedWrite));
}

TEST_CASE("T13: a foreign write to an image file is noticed while the disk is open") {
  const ScratchDirectory scratch;
  const std::string path = scratch.path() + "/disk";
  const int fd = ::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  REQUIRE(::ftruncate(fd, kDiskBytes) == 0);
  auto backing = open_file_device({.path = path});
  REQUIRE(backing.is_ok());
  if (backing.value()->facts().value().write_stamp == 0) return;  // not on such a file system
  Scene scene(backing.value());
  for (int i = 0; i < 3; ++i) {
    write_blocks(*scene.device, static_cast<uint64_t>(i), 1, 1);
    scene.look();
    scene.look();
    CHECK(scene.suspect_blocks() == 0);
  }
  // The clock that stamps files moves every few milliseconds.
  struct stat before {
  }, after{};
  REQUIRE(::fstat(fd, &before) == 0);
  wait_until([&] {
    REQUIRE(::pwrite(fd, "foreign", 7, 5 * kBlock) == 7);
    REQUIRE(::fstat(fd, &after) == 0);
    return before.st_mtim.tv_nsec != after.st_mtim.tv_nsec;
  });
  scene.look();
  CHECK(scene.suspect_blocks() == kDiskBytes / kBlock);
  CHECK(scene.has_cause(SuspicionCause::kForeignWrite));
  ::close(fd);
}

TEST_CASE("T13: what this process writes past the filter is foreign as well") {
  const auto backing = std::make_shared<StampedDevice>(make_memory_device(kDiskBytes));
  Scene scene(backing);
  write_blocks(*backing, 3, 1, 1);
  scene.look();
  CHECK(scene.has_cause(SuspicionCause::kForeignWrite));
}

TEST_CASE("a write of ours explains the change, however long it takes") {
  const auto stamped = std::make_shared<StampedDevice>(make_memory_device(kDiskBytes));
  Gate gate;
  Canary canary(*stamped, gate);
  IoRequest entered;
  uint64_t ticket = 0;
  REQUIRE(gate.enter(entered, ticket));
  canary.note_write(0);
  CHECK_FALSE(canary.look(false));
  CHECK_FALSE(canary.look(false));
  write_blocks(*stamped, 0, 1, 1);
  CHECK_FALSE(canary.look(false));
  gate.leave(ticket);
  CHECK_FALSE(canary.look(false));
  CHECK_FALSE(canary.look(false));
  ++stamped->stamp;
  CHECK(canary.look(false));
}

TEST_CASE("a device that counts what arrived is asked only while nothing is marked") {
  const auto stamped = std::make_shared<StampedDevice>(make_memory_device(kDiskBytes));
  stamped->counts_what_arrived = true;
  const Gate gate;
  Canary canary(*stamped, gate);
  ++stamped->stamp;
  CHECK_FALSE(canary.look(true));
  ++stamped->stamp;
  CHECK_FALSE(canary.look(false));  // the first without marks: what it counts from
  CHECK_FALSE(canary.look(false));
  ++stamped->stamp;
  CHECK(canary.look(false));
}

TEST_CASE("growing the disk is no foreign write") {
  const ScratchDirectory scratch;
  const std::string path = scratch.path() + "/disk";
  const int fd = ::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  REQUIRE(::ftruncate(fd, kDiskBytes) == 0);
  ::close(fd);
  auto backing = open_file_device({.path = path});
  REQUIRE(backing.is_ok());
  Scene scene(backing.value());
  scene.look();
  REQUIRE(scene.device->resize(2 * kDiskBytes).is_ok());
  scene.look();
  scene.look();
  CHECK(scene.suspect_blocks() == 0);
}

TEST_CASE("under load from several threads no look says foreign") {
  const auto stamped = std::make_shared<StampedDevice>(make_memory_device(kDiskBytes));
  Scene watched(stamped);
  std::atomic<bool> ends{false};
  std::vector<std::thread> writers;
  for (uint64_t i = 0; i < 3; ++i) {
    writers.emplace_back([&, i] {
      std::mt19937_64 random(i);
      while (!ends.load()) {
        const Bytes block = filled(kBlock, 1);
        (void)write_sync(*watched.device, random() % 64 * kBlock, block);
        if (random() % 4 == 0) std::this_thread::sleep_for(std::chrono::microseconds(50));
      }
    });
  }
  watched.device->impl().bitmap().intents().start();
  for (int i = 0; i < 3000; ++i) watched.look();
  ends = true;
  for (std::thread& writer : writers) writer.join();
  CHECK(watched.suspect_blocks() == 0);
}
