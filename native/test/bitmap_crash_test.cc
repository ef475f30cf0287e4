// T3, T4: the process is killed at named places and at random ones. A journal
// in memory shared with the parent says what was marked; whatever it says and
// no commit covers must be set after the next open.
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <atomic>
#include <random>

#include "bitmap_support.h"
#include "common/failpoint.h"

using namespace tidemark;

namespace {

constexpr uint64_t kBlock = 4096;
constexpr uint64_t kBlocks = 100'000;  // several pages a map
constexpr uint64_t kSize = kBlocks * kBlock - 1;

class Journal {
 public:
  Journal()
      : marked_(static_cast<std::atomic<bool>*>(
            ::mmap(nullptr, kBlocks, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))) {
    REQUIRE(static_cast<void*>(marked_) != MAP_FAILED);
  }
  ~Journal() { ::munmap(static_cast<void*>(marked_), kBlocks); }
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  void mark(DirtyBitmap& bitmap, uint64_t block) {
    bitmap.mark(block * kBlock, 1);
    marked_[block] = true;
  }
  void note(uint64_t block) { marked_[block] = true; }
  bool is_marked(uint64_t block) const { return marked_[block]; }

 private:
  std::atomic<bool>* marked_;
};

// Runs `body` in a child; answers the signal that ended it, 0 for a return.
template <typename Body>
pid_t fork_child(Body body) {
  const pid_t child = ::fork();
  if (child == 0) {
    body();
    ::_exit(0);
  }
  REQUIRE(child > 0);
  return child;
}

int ending_signal(pid_t child) {
  int state = 0;
  REQUIRE(::waitpid(child, &state, 0) == child);
  return WIFSIGNALED(state) ? WTERMSIG(state) : 0;
}

void arm(const std::string& setting) {
  ::setenv("TIDEMARK_FAILPOINT", setting.c_str(), 1);
  arm_failpoints_from_environment();
}

uint64_t lost_block_count(const DirtyBitmap& bitmap, const Journal& journal) {
  uint64_t lost = 0;
  for (const auto& target : bitmap.targets()) {
    for (uint64_t block = 0; block < kBlocks; ++block) {
      const bool set = bitmap.is_dirty(MapId::pending(target.slot), block) ||
                       bitmap.is_dirty(MapId::staged(target.slot), block) ||
                       bitmap.is_dirty(MapId::suspect(target.slot), block);
      lost += journal.is_marked(block) && !set;
    }
  }
  return lost;
}

void mark_some(DirtyBitmap& bitmap, Journal& journal, std::mt19937_64& random) {
  for (int i = 0; i < 50; ++i) journal.mark(bitmap, random() % kBlocks);
}

// Passes every move, and ends without a commit.
void whole_cycle(DirtyBitmap& bitmap, uint32_t slot, Journal& journal, std::mt19937_64& random) {
  mark_some(bitmap, journal, random);
  bitmap.flip();
  mark_some(bitmap, journal, random);
  (void)bitmap.merge_closed();
  (void)bitmap.take_pending(slot);
  mark_some(bitmap, journal, random);
  (void)bitmap.give_back(slot);
  (void)bitmap.take_pending(slot);
  (void)bitmap.stage(slot);
  (void)bitmap.unstage(slot);
  mark_some(bitmap, journal, random);
  for (int i = 0; i < 20; ++i) {
    const uint64_t block = random() % kBlocks;
    for (const auto& target : bitmap.targets()) {
      (void)bitmap.mark_suspect(target.slot, block * kBlock, 1, SuspicionCause::kModified);
    }
    journal.note(block);
  }
  (void)bitmap.suspect_to_pending(slot, kSize / 4, kSize / 2);
}

std::string two_target_file(const TempDirectory& directory) {
  const std::string path = directory.file("b");
  auto bitmap = create_bitmap(path, kSize);
  add_target(*bitmap, kReplicaA);
  add_target(*bitmap, kReplicaB);
  return path;
}

}  // namespace

TEST_CASE("no bit is lost when the process is killed at any move, five times each") {
  for (const char* name : {"bitmap.flip", "bitmap.merge", "bitmap.take", "bitmap.give_back",
                           "bitmap.stage", "bitmap.unstage", "bitmap.suspect",
                           "bitmap.suspect_to_pending", "bitmap.recover", "bitmap.close"}) {
    CAPTURE(name);
    TempDirectory directory;
    Journal journal;
    const std::string path = two_target_file(directory);
    for (uint64_t round = 1; round <= 5; ++round) {
      const pid_t child = fork_child([&] {
        std::mt19937_64 random(round);
        arm(name);
        auto opened = DirtyBitmap::open(path, kDisk, kSize);
        if (!opened.is_ok()) return;
        whole_cycle(*opened.value(), 0, journal, random);
        (void)opened.value()->close();
      });
      CHECK(ending_signal(child) == SIGKILL);
      auto bitmap = open_bitmap(path, kSize);
      CHECK_FALSE(bitmap->opened_clean());
      CHECK(lost_block_count(*bitmap, journal) == 0);
      journal.mark(*bitmap, round);  // and ends unclean
    }
  }
}

TEST_CASE("no bit is lost when the process is killed at random instants") {
  TempDirectory directory;
  Journal journal;
  const std::string path = two_target_file(directory);
  std::mt19937_64 random(11);
  for (int round = 0; round < 25; ++round) {
    const pid_t child = fork_child([&] {
      std::mt19937_64 own(random());
      auto opened = DirtyBitmap::open(path, kDisk, kSize);
      while (opened.is_ok()) whole_cycle(*opened.value(), own() % 2, journal, own);
    });
    ::usleep(static_cast<useconds_t>(random() % 15'000));
    ::kill(child, SIGKILL);
    CHECK(ending_signal(child) == SIGKILL);
    CHECK(lost_block_count(*open_bitmap(path, kSize), journal) == 0);
  }
}

TEST_CASE("a commit that is killed half-way leaves nothing but what it may send again") {
  TempDirectory directory;
  const std::string path = two_target_file(directory);
  const pid_t child = fork_child([&] {
    arm("bitmap.commit");
    auto opened = DirtyBitmap::open(path, kDisk, kSize);
    if (!opened.is_ok()) return;
    DirtyBitmap& bitmap = *opened.value();
    bitmap.mark_pending(0, 0, 1);
    (void)bitmap.take_pending(0);
    (void)bitmap.stage(0);
    bitmap.mark_pending(0, kBlock, 1);
    (void)bitmap.take_pending(0);
    bitmap.mark_pending(0, 2 * kBlock, 1);
    (void)bitmap.commit(0);
  });
  CHECK(ending_signal(child) == SIGKILL);
  auto bitmap = open_bitmap(path, kSize);
  CHECK(blocks_of(*bitmap, MapId::pending(0)) == std::set<uint64_t>{1, 2});
  CHECK(blocks_of(*bitmap, MapId::staged(0)).empty());
}

TEST_CASE("a target whose removal was killed is gone, and its slot comes back empty") {
  TempDirectory directory;
  const std::string path = two_target_file(directory);
  const pid_t child = fork_child([&] {
    arm("bitmap.remove_target");
    auto opened = DirtyBitmap::open(path, kDisk, kSize);
    if (!opened.is_ok()) return;
    opened.value()->mark_pending(1, 0, kSize);
    (void)opened.value()->remove_target(1);
  });
  CHECK(ending_signal(child) == SIGKILL);
  auto bitmap = open_bitmap(path, kSize);
  CHECK_FALSE(bitmap->find_target(kReplicaB).has_value());
  CHECK(add_target(*bitmap, Uuid::random()) == 1);
  CHECK(blocks_of(*bitmap, MapId::pending(1)).empty());
}

// Grows under marks, twice, the second time to coarser blocks.
void growing(DirtyBitmap& bitmap, Journal& journal, std::mt19937_64& random) {
  for (const uint64_t factor : {2, 5}) {
    mark_some(bitmap, journal, random);
    if (!bitmap.begin_growth(factor * kSize).is_ok()) return;
    mark_some(bitmap, journal, random);
    if (!bitmap.finish_growth().is_ok()) return;
    mark_some(bitmap, journal, random);
    bitmap.flip();
    (void)bitmap.merge_closed();
  }
}

TEST_CASE("T11: no bit is lost when the process is killed at any step of a growth") {
  // The last passage is that of the second growth.
  for (const char* name :
       {"bitmap.create:1", "bitmap.grow.begun:1", "bitmap.grow.merged:1", "bitmap.grow.renamed:1",
        "bitmap.grow.finished:1", "bitmap.create:2", "bitmap.grow.begun:2", "bitmap.grow.merged:2",
        "bitmap.grow.renamed:2", "bitmap.grow.finished:2"}) {
    CAPTURE(name);
    TempDirectory directory;
    Journal journal;
    const std::string path = two_target_file(directory);
    const pid_t child = fork_child([&] {
      std::mt19937_64 random(3);
      arm(name);
      auto opened = DirtyBitmap::open(path, kDisk, kSize);
      if (opened.is_ok()) growing(*opened.value(), journal, random);
    });
    CHECK(ending_signal(child) == SIGKILL);
    // The backing grew before the bitmap did.
    auto bitmap = open_bitmap(path, 5 * kSize);
    CHECK_FALSE(bitmap->opened_clean());
    CHECK(directory.entry_count() == 1);
    CHECK(bitmap->disk_size_bytes() == 5 * kSize);
    CHECK(lost_block_count(*bitmap, journal) == 0);
    for (const auto& target : bitmap->targets()) {
      const auto grown = bitmap->next_extent(MapId::pending(target.slot), kSize, UINT64_MAX);
      REQUIRE(grown.has_value());
      CHECK(grown->offset_bytes == kSize);
      CHECK(grown->length_bytes == 4 * kSize);
    }
  }
}

TEST_CASE("T11: no bit is lost when the process is killed at random instants of growths") {
  std::mt19937_64 random(17);
  for (int round = 0; round < 25; ++round) {
    TempDirectory directory;
    Journal journal;
    const std::string path = two_target_file(directory);
    const pid_t child = fork_child([&] {
      std::mt19937_64 own(random());
      auto opened = DirtyBitmap::open(path, kDisk, kSize);
      for (uint64_t size = kSize; opened.is_ok(); size += kBlock) {
        mark_some(*opened.value(), journal, own);
        if (!opened.value()->begin_growth(size + kBlock).is_ok()) return;
        mark_some(*opened.value(), journal, own);
        if (!opened.value()->finish_growth().is_ok()) return;
      }
    });
    ::usleep(static_cast<useconds_t>(2'000 + random() % 30'000));
    ::kill(child, SIGKILL);
    CHECK(ending_signal(child) == SIGKILL);
    CHECK(lost_block_count(*open_bitmap(path, 2 * kSize), journal) == 0);
  }
}

TEST_CASE("a creation that is killed leaves no file behind") {
  TempDirectory directory;
  const pid_t child = fork_child([&] {
    arm("bitmap.create");
    (void)DirtyBitmap::create(directory.file("b"), {kDisk, kSize, 4096});
  });
  CHECK(ending_signal(child) == SIGKILL);
  CHECK(directory.entry_count() == 0);
  create_bitmap(directory.file("b"), kSize);
}

TEST_CASE("a bitmap that another process holds is refused until that one is gone") {
  TempDirectory directory;
  const std::string path = two_target_file(directory);
  int ready[2];
  REQUIRE(::pipe(ready) == 0);
  const pid_t child = fork_child([&] {
    const auto opened = DirtyBitmap::open(path, kDisk, kSize);
    (void)!::write(ready[1], "!", 1);
    ::pause();
  });
  char byte = 0;
  REQUIRE(::read(ready[0], &byte, 1) == 1);
  CHECK(open_error(path, kSize) == ErrorCode::kInUse);
  ::kill(child, SIGKILL);
  CHECK(ending_signal(child) == SIGKILL);
  CHECK(open_error(path, kSize) == ErrorCode::kOk);
  ::close(ready[0]);
  ::close(ready[1]);
}
