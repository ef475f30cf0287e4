// T40: who was taken over from writes no more, however long it was stopped.
#include "device/fenced_device.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <fstream>

#include "bitmap/bitmap_take_over.h"
#include "bitmap_support.h"
#include "device/file_device.h"
#include "tracking_support.h"

using namespace tidemark;
using tracking_test::content_of;
using tracking_test::filled;
using tracking_test::Request;
using tracking_test::wait_until;

namespace {

constexpr uint64_t kSize = 1 << 20;
constexpr std::chrono::milliseconds kShortLease{300};

Result<std::unique_ptr<OwnerRecord>> claim(const std::string& path, bool by_force = false,
                                           std::chrono::milliseconds lease = kShortLease,
                                           std::chrono::milliseconds drain = kShortLease) {
  return OwnerRecord::claim({path, by_force, lease, drain});
}

struct Scene {
  std::shared_ptr<FencedDevice> own(bool by_force = false) const {
    auto record = claim(owner, by_force);
    INFO(record.status().message());
    REQUIRE(record.is_ok());
    return std::make_shared<FencedDevice>(backing, std::move(record).value());
  }

  TempDirectory directory;
  const std::string owner = directory.file("disk.owner");
  const std::shared_ptr<BlockDevice> backing = make_memory_device(kSize);
};

// What two processes tell each other.
struct Shared {
  std::atomic<uint64_t> written{0};
  std::atomic<uint64_t> refused{0};
  std::atomic<bool> must_end{false};
};

Shared& shared_memory() {
  void* at = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  REQUIRE(at != MAP_FAILED);
  return *new (at) Shared;
}

std::shared_ptr<BlockDevice> open_image(const std::string& path) {
  FileDeviceParameters parameters;
  parameters.path = path;
  auto device = open_file_device(parameters);
  if (!device.is_ok()) ::_exit(3);
  return device.value();
}

// The former owner: writes all over the disk, round after round, until it is told to end.
[[noreturn]] void write_for_ever(const std::string& image, const std::string& owner,
                                 Shared& shared) {
  {
    auto record = claim(owner, false, std::chrono::seconds(60));
    if (!record.is_ok()) ::_exit(2);
    FencedDevice device(open_image(image), std::move(record).value());
    while (!shared.must_end.load()) {
      for (uint64_t at = 0; at < kSize && !shared.must_end.load(); at += 4096) {
        const bool is_written = write_sync(device, at, filled(4096, 1)).is_ok();
        (is_written ? shared.written : shared.refused).fetch_add(1);
      }
    }
  }
  ::_exit(0);
}

void require_stopped(pid_t child) {
  int state = 0;
  REQUIRE(::waitpid(child, &state, WUNTRACED) == child);
  REQUIRE(WIFSTOPPED(state));
}

}  // namespace

TEST_CASE("an owner writes, and nobody else gets the disk while it lives") {
  const Scene scene;
  {
    const auto device = scene.own();
    CHECK(Request(IoOp::kWrite, 0, 4096, 1).submit(*device).wait() == 0);
    CHECK(claim(scene.owner).status().code() == ErrorCode::kInUse);
    CHECK_FALSE(device->ownership().is_fenced);
  }
  CHECK(scene.own()->ownership().epoch == 2);
}

TEST_CASE(
    "T40: after a take-over the former owner's writes, trims and zeroes fail, and reads too") {
  const Scene scene;
  const auto former = scene.own();
  const auto present = scene.own(true);
  CHECK(Request(IoOp::kWrite, 0, 4096, 1).submit(*present).wait() == 0);
  for (const IoOp op : {IoOp::kWrite, IoOp::kTrim, IoOp::kWriteZeroes, IoOp::kRead}) {
    CHECK(Request(op, 0, 4096, 9).submit(*former).wait() == EIO);
  }
  CHECK(former->ownership().is_fenced);
  CHECK(former->resize(2 * kSize).code() == ErrorCode::kFenced);
  CHECK(scene.backing->size_bytes() == kSize);
  CHECK(content_of(*present)[0] == std::byte{1});
}

TEST_CASE("a take-over waits for the writes that are under way, and says so when they do not end") {
  const Scene scene;
  const auto steps = std::make_shared<tracking_test::StepDevice>(scene.backing);
  FencedDevice former(steps, std::move(claim(scene.owner).value()));
  steps->hold(IoOp::kWrite);
  Request write(IoOp::kWrite, 0, 4096, 9);
  write.submit(former);
  CHECK(claim(scene.owner, true).status().code() == ErrorCode::kTimedOut);
  // It is fenced all the same, and so is everybody.
  CHECK(Request(IoOp::kWrite, 4096, 4096, 9).submit(former).wait() == EIO);
  steps->let_go();
  CHECK(write.wait() == 0);
  CHECK(claim(scene.owner, true).is_ok());
}

TEST_CASE("T40: a lease that ran out holds writes back until the record was read again") {
  const Scene scene;
  const auto device = scene.own();
  // Where nobody can read it: as storage that is away.
  std::filesystem::rename(scene.owner, scene.owner + ".away");
  std::this_thread::sleep_for(2 * kShortLease);
  Request write(IoOp::kWrite, 0, 4096, 1);
  write.submit(*device);
  CHECK_FALSE(write.is_done());
  CHECK(content_of(*device)[0] == std::byte{0});
  std::filesystem::rename(scene.owner + ".away", scene.owner);
  CHECK(write.wait() == 0);
  CHECK(content_of(*device)[0] == std::byte{1});
}

TEST_CASE(
    "T40: an owner of another machine is waited for as long as its lease, and stops by itself") {
  const Scene scene;
  const auto former = scene.own();
  // Of another boot, and seen through a file that no mapping connects.
  const std::string there = scene.owner + ".there";
  edit_header(scene.owner, [](uint8_t* sector) { sector[32] ^= 1; });
  std::filesystem::rename(scene.owner, there);
  std::filesystem::copy_file(there, scene.owner);
  const UniqueFd lock(::open(scene.owner.c_str(), O_RDWR | O_CLOEXEC));
  struct flock held {};
  held.l_type = F_WRLCK;
  held.l_start = (off_t{1} << 40) + 1;
  held.l_len = 1;
  REQUIRE(::fcntl(lock.get(), F_OFD_SETLK, &held) == 0);
  CHECK(claim(scene.owner).status().code() == ErrorCode::kInUse);
  const auto began = std::chrono::steady_clock::now();
  const auto present = scene.own(true);
  CHECK(std::chrono::steady_clock::now() - began >= kShortLease);
  CHECK(Request(IoOp::kWrite, 0, 4096, 9).submit(*former).wait() == EIO);
  CHECK(Request(IoOp::kWrite, 0, 4096, 1).submit(*present).wait() == 0);
}

TEST_CASE("a damaged record is no permission") {
  const Scene scene;
  { const auto device = scene.own(); }
  flip_bit(scene.owner, 20, 1);
  CHECK(claim(scene.owner, true).status().code() == ErrorCode::kCorrupt);
}

namespace {

// Stopped in the middle of a write it has to get out of that before anybody else may.
std::unique_ptr<OwnerRecord> take_over(const std::string& owner, pid_t child, Shared& shared) {
  auto record = claim(owner, true);
  while (!record.is_ok()) {
    REQUIRE(record.status().code() == ErrorCode::kTimedOut);
    REQUIRE(::kill(child, SIGCONT) == 0);
    wait_until([&] { return shared.refused.load() > 0; });
    record = claim(owner, true);
  }
  return std::move(record).value();
}

void require_good_end(pid_t child) {
  int state = 0;
  REQUIRE(::waitpid(child, &state, 0) == child);
  REQUIRE(WIFEXITED(state));
  CHECK(WEXITSTATUS(state) == 0);
}

void stop_take_over_and_continue(uint64_t write_count) {
  const TempDirectory directory;
  const std::string image = directory.file("disk.raw");
  const std::string owner = directory.file("disk.owner");
  std::ofstream(image).close();
  std::filesystem::resize_file(image, kSize);
  Shared& shared = shared_memory();
  const pid_t child = ::fork();
  if (child == 0) write_for_ever(image, owner, shared);
  REQUIRE(child > 0);
  wait_until([&] { return shared.written.load() > write_count; });
  REQUIRE(::kill(child, SIGSTOP) == 0);
  require_stopped(child);
  {
    FencedDevice device(open_image(image), take_over(owner, child, shared));
    REQUIRE(write_sync(device, 0, filled(kSize, 2)).is_ok());
    const uint64_t refused_before = shared.refused.load();
    const uint64_t written_before = shared.written.load();
    REQUIRE(::kill(child, SIGCONT) == 0);
    // Twice over the whole disk, in vain. Or not: then it shows below.
    wait_until([&] {
      return shared.refused.load() + shared.written.load() >
             refused_before + written_before + 2 * kSize / 4096;
    });
    CHECK(tracking_test::is_all(content_of(device), 2));
    // The last one that the writer has counted may have ended before it was stopped.
    CHECK(shared.written.load() <= written_before + 1);
  }
  shared.must_end = true;
  require_good_end(child);
  ::munmap(&shared, 4096);
}

}  // namespace

TEST_CASE(
    "T40: a process that was stopped, taken over from and continued writes nothing any more") {
  for (uint64_t round = 0; round < 10; ++round) stop_take_over_and_continue(100 + round * 37);
}

namespace {

constexpr uint64_t kTrackedBlocks = 40'000;

// Moves its bits on and on, as cycles that fail do.
class Mover {
 public:
  Mover(DirtyBitmap& bitmap, uint32_t slot)
      : thread_([this, &bitmap, slot] {
          while (!must_end_.load()) {
            bitmap.flip();
            (void)bitmap.merge_closed();
            (void)bitmap.take_pending(slot);
            (void)bitmap.give_back(slot);
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
          }
        }) {}
  ~Mover() {
    must_end_ = true;
    thread_.join();
  }
  Mover(const Mover&) = delete;
  Mover& operator=(const Mover&) = delete;

 private:
  std::atomic<bool> must_end_{false};
  std::thread thread_;
};

Status take_over_patiently(const std::string& path) {
  for (;;) {
    Status status = take_bitmap_over(path);
    if (status.code() != ErrorCode::kTimedOut) return status;
  }
}

}  // namespace

TEST_CASE("a bitmap taken over has every bit of the one that is held, whose end changes nothing") {
  for (const bool is_moving : {false, true}) {
    CAPTURE(is_moving);
    const TempDirectory directory;
    const std::string path = directory.file("b");
    auto former = create_bitmap(path, kTrackedBlocks * 4096);
    const uint32_t slot = add_target(*former, kReplicaA);
    std::set<uint64_t> marked;
    for (uint64_t block = 0; block < kTrackedBlocks; block += 37) {
      former->mark(block * 4096, 1);
      marked.insert(block);
    }
    {
      std::unique_ptr<Mover> mover;
      if (is_moving) mover = std::make_unique<Mover>(*former, slot);
      require_ok(take_over_patiently(path));
    }
    auto present = open_bitmap(path, kTrackedBlocks * 4096);
    CHECK_FALSE(present->opened_clean());
    CHECK(blocks_of(*present, MapId::pending(slot)) == marked);
    CHECK(present->dirty_block_count(MapId::suspect(slot)) == 0);
    require_ok(former->commit(slot));
    (void)former->close();
    CHECK(blocks_of(*present, MapId::pending(slot)) == marked);
    require_ok(present->close());
    CHECK(open_error(path, kTrackedBlocks * 4096) == ErrorCode::kOk);
  }
}
