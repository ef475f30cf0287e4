// What is durable when: this program's own msync() records which words reached
// the storage, and can fail. The page cache of the tests' machine never loses
// anything, so only this shows that a move syncs before it clears.
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "bitmap_support.h"

namespace {

struct Storage {
  bool fails = false;
  size_t call_count = 0;
  uint64_t synced_bytes = 0;
  std::vector<std::pair<uintptr_t, std::string>> synced;  // address, content
};
Storage storage;

}  // namespace

extern "C" int msync(void* address, size_t length, int flags) noexcept {
  ++storage.call_count;
  if (storage.fails) {
    errno = EIO;
    return -1;
  }
  storage.synced_bytes += length;
  storage.synced.emplace_back(reinterpret_cast<uintptr_t>(address),
                              std::string(static_cast<const char*>(address), length));
  return static_cast<int>(::syscall(SYS_msync, address, length, flags));
}

using namespace tidemark;

namespace {

constexpr uint64_t kBlock = 4096;
constexpr uint64_t kMapBytes = 128 << 10;
constexpr uint64_t kSize = kMapBytes * 8 * kBlock;  // 2^20 blocks, maps of 32 pages
constexpr uint64_t kMapsOffset = 256 << 10;

// By inode: a file that was created without a name keeps none in this list. The log's
// page has a small mapping of its own.
uintptr_t mapping_of(const std::string& path) {
  struct stat file {};
  REQUIRE(::stat(path.c_str(), &file) == 0);
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    std::istringstream fields(line);
    std::string range, mode, offset, device;
    uint64_t inode = 0;
    fields >> range >> mode >> offset >> device >> inode;
    if (inode != file.st_ino) continue;
    const uintptr_t begin = std::stoull(range, nullptr, 16);
    const uintptr_t end = std::stoull(range.substr(range.find('-') + 1), nullptr, 16);
    if (end - begin >= kMapsOffset) return begin;
  }
  return 0;
}

// The bit of `block` in the map at this place of the file, as last synced.
bool is_durable(const std::string& path, uint64_t map_index, uint64_t block) {
  const uintptr_t at = mapping_of(path) + kMapsOffset + map_index * kMapBytes + block / 8;
  bool set = false;
  for (const auto& [address, content] : storage.synced) {
    if (at < address || at >= address + content.size()) continue;
    set = (static_cast<uint8_t>(content[at - address]) >> (block % 8)) & 1;
  }
  return set;
}

constexpr uint64_t kPendingA = 2, kInFlightA = 3, kStagedA = 4, kSuspectA = 5, kPendingB = 6;

}  // namespace

TEST_CASE("every move makes its destination durable, of every target") {
  TempDirectory directory;
  const std::string path = directory.file("b");
  auto bitmap = create_bitmap(path, kSize);
  add_target(*bitmap, kReplicaA);
  add_target(*bitmap, kReplicaB);
  for (const uint64_t block : {uint64_t{0}, uint64_t{70'000}, uint64_t{(1 << 20) - 1}}) {
    storage = {};
    bitmap->mark(block * kBlock, 1);
    bitmap->flip();
    CHECK_FALSE(is_durable(path, kPendingA, block));
    require_ok(bitmap->merge_closed());
    CHECK(is_durable(path, kPendingA, block));
    CHECK(is_durable(path, kPendingB, block));
    CHECK_FALSE(is_durable(path, kInFlightA, block));
    require_ok(bitmap->take_pending(0));
    CHECK(is_durable(path, kInFlightA, block));
    require_ok(bitmap->stage(0));
    CHECK(is_durable(path, kStagedA, block));
    storage = {};
    require_ok(bitmap->unstage(0));
    CHECK(is_durable(path, kPendingA, block));
    require_ok(bitmap->take_pending(0));
    storage = {};
    require_ok(bitmap->give_back(0));
    CHECK(is_durable(path, kPendingA, block));
    require_ok(bitmap->take_pending(0));
    require_ok(bitmap->commit(0));
  }
}

TEST_CASE(
    "suspicion is durable on return, and a suspect block is durably pending before it is not") {
  TempDirectory directory;
  const std::string path = directory.file("b");
  auto bitmap = create_bitmap(path, kSize);
  const uint32_t slot = add_target(*bitmap, kReplicaA);
  storage = {};
  require_ok(bitmap->mark_suspect(slot, 70'000 * kBlock, 1, SuspicionCause::kLostWrites));
  CHECK(is_durable(path, kSuspectA, 70'000));
  storage.fails = true;
  CHECK(bitmap->suspect_to_pending(slot, 70'000 * kBlock, 1).code() == ErrorCode::kIo);
  CHECK(bitmap->is_dirty(MapId::suspect(slot), 70'000));
  storage = {};
  require_ok(bitmap->suspect_to_pending(slot, 70'000 * kBlock, 1));
  CHECK(is_durable(path, kPendingA, 70'000));
  CHECK_FALSE(bitmap->is_dirty(MapId::suspect(slot), 70'000));
  storage.fails = true;
  CHECK(bitmap->mark_suspect(slot, 0, 1, SuspicionCause::kOrdered).code() == ErrorCode::kIo);
  CHECK(bitmap->is_dirty(MapId::suspect(slot), 0));
  storage = {};
}

TEST_CASE("recovery after an unclean end makes the pending maps durable") {
  TempDirectory directory;
  const std::string path = directory.file("b");
  auto bitmap = create_bitmap(path, kSize);
  add_target(*bitmap, kReplicaA);
  add_target(*bitmap, kReplicaB);
  bitmap->mark_pending(0, 5 * kBlock, 1);
  require_ok(bitmap->take_pending(0));
  bitmap->mark(6 * kBlock, 1);
  bitmap->flip();
  bitmap->mark(7 * kBlock, 1);
  bitmap.reset();
  storage = {};
  bitmap = open_bitmap(path, kSize);
  CHECK(is_durable(path, kPendingA, 5));
  CHECK_FALSE(is_durable(path, kPendingB, 5));
  for (const uint64_t block : {6, 7}) {
    CHECK(is_durable(path, kPendingA, block));
    CHECK(is_durable(path, kPendingB, block));
  }
}

TEST_CASE("an empty cycle syncs nothing, a small one its own pages alone") {
  TempDirectory directory;
  auto bitmap = create_bitmap(directory.file("b"), kSize);
  add_target(*bitmap, kReplicaA);
  storage = {};
  bitmap->flip();
  require_ok(bitmap->merge_closed());
  require_ok(bitmap->take_pending(0));
  require_ok(bitmap->stage(0));
  require_ok(bitmap->commit(0));
  CHECK(storage.call_count == 0);
  bitmap->mark(3 * 32768 * kBlock, 10 * kBlock);
  bitmap->flip();
  require_ok(bitmap->merge_closed());
  CHECK(storage.call_count == 1);
  CHECK(storage.synced_bytes <= 4096);
}

// The kernel tells each open file once of a failed write-back, whichever page it was of.
TEST_CASE("the log's syncs take no failure's news away from the maps'") {
  TempDirectory directory;
  const std::string path = directory.file("b");
  auto bitmap = create_bitmap(path, kSize);
  storage = {};
  require_ok(bitmap->intents().finish(true));
  REQUIRE_FALSE(storage.synced.empty());
  const uintptr_t maps = mapping_of(path);
  for (const auto& [log, content] : storage.synced) {
    CHECK((log < maps || log >= maps + kMapsOffset));
    CHECK(std::memcmp(reinterpret_cast<const char*>(log), "TMINTENT", 8) == 0);
  }
}

TEST_CASE("a sync that fails leaves the bits where they were, too, and the end unclean") {
  TempDirectory directory;
  const std::string path = directory.file("b");
  auto bitmap = create_bitmap(path, kSize);
  add_target(*bitmap, kReplicaA);
  storage = {};
  bitmap->mark(0, 1);
  bitmap->flip();
  storage.fails = true;
  CHECK(bitmap->merge_closed().code() == ErrorCode::kIo);
  CHECK(bitmap->is_dirty(MapId::closed(), 0));
  storage.fails = false;
  require_ok(bitmap->merge_closed());
  CHECK_FALSE(bitmap->is_dirty(MapId::closed(), 0));
  CHECK(is_durable(path, kPendingA, 0));
  storage.fails = true;
  CHECK(bitmap->take_pending(0).code() == ErrorCode::kIo);
  CHECK(bitmap->is_dirty(MapId::pending(0), 0));
  storage.fails = false;
  CHECK(bitmap->close().code() == ErrorCode::kIo);
  CHECK(bitmap->close().code() == ErrorCode::kIo);
  bitmap.reset();
  bitmap = open_bitmap(path, kSize);
  CHECK_FALSE(bitmap->opened_clean());
  CHECK(bitmap->is_dirty(MapId::pending(0), 0));
}

namespace {

// In a mount namespace of its own, on a file system of 2 MiB.
int add_targets_until_full(const std::string& mount_point) {
  if (::unshare(CLONE_NEWNS) != 0 && ::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return 77;
  ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
  if (::mount("tmpfs", mount_point.c_str(), "tmpfs", 0, "size=2m") != 0) return 77;
  const std::string path = mount_point + "/b";
  auto made = DirtyBitmap::create(path, {kDisk, kSize, 4096});
  if (!made.is_ok()) return 1;
  DirtyBitmap& bitmap = *made.value();
  Status status;
  while (status.is_ok()) status = bitmap.add_target(Uuid::random()).status();
  if (status.code() != ErrorCode::kNoSpace) return 2;
  const size_t target_count = bitmap.targets().size();
  if (target_count < 2 || target_count > 5) return 3;
  // What was promised is there: every map in use can be filled whole.
  bitmap.mark(0, kSize);
  for (const auto& target : bitmap.targets()) {
    bitmap.mark_pending(target.slot, 0, kSize);
    if (!bitmap.take_pending(target.slot).is_ok()) return 4;
    if (!bitmap.stage(target.slot).is_ok()) return 5;
    bitmap.mark_pending(target.slot, 0, kSize);
  }
  if (!bitmap.remove_target(0).is_ok() || !bitmap.add_target(kReplicaA).is_ok()) return 6;
  if (DirtyBitmap::create(mount_point + "/c", {kDisk, 8 * kSize, 4096}).status().code() !=
      ErrorCode::kNoSpace) {
    return 7;
  }
  return ::access((mount_point + "/c").c_str(), F_OK) == 0 ? 8 : 0;
}

}  // namespace

TEST_CASE("a full file system is met when a target is added, never under a mark") {
  TempDirectory directory;
  std::filesystem::create_directory(directory.file("mount"));
  const pid_t child = ::fork();
  if (child == 0) ::_exit(add_targets_until_full(directory.file("mount")));
  int state = 0;
  REQUIRE(::waitpid(child, &state, 0) == child);
  REQUIRE(WIFEXITED(state));
  if (WEXITSTATUS(state) == 77) {
    MESSAGE("skipped: mounting a small file system in a namespace is not allowed here");
    return;
  }
  CHECK(WEXITSTATUS(state) == 0);
}
