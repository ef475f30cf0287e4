// T10, T11: a disk that grows keeps its marks, and what it grew by is changed.
#include <random>
#include <thread>

#include "bitmap_support.h"

using namespace tidemark;

namespace {

constexpr uint64_t kBlock = 4096;

void grow(DirtyBitmap& bitmap, uint64_t disk_size_bytes) {
  require_ok(bitmap.begin_growth(disk_size_bytes));
  require_ok(bitmap.finish_growth());
}

std::set<uint64_t> range(uint64_t first, uint64_t end) {
  std::set<uint64_t> blocks;
  for (; first < end; ++first) blocks.insert(first);
  return blocks;
}

std::set<uint64_t> joined(std::set<uint64_t> blocks, const std::set<uint64_t>& more) {
  blocks.insert(more.begin(), more.end());
  return blocks;
}

// A bit of its own in every map of two targets, and in the live map.
std::string make_scene(const TempDirectory& directory, uint64_t size_bytes,
                       uint32_t granularity_bytes) {
  const std::string path = directory.file("b");
  auto bitmap = create_bitmap(path, size_bytes, granularity_bytes);
  const uint32_t a = add_target(*bitmap, kReplicaA);
  const uint32_t b = add_target(*bitmap, kReplicaB);
  bitmap->mark_pending(a, 0, 1);
  require_ok(bitmap->take_pending(a));
  require_ok(bitmap->stage(a));
  bitmap->mark_pending(a, 1 * uint64_t{granularity_bytes}, 1);
  require_ok(bitmap->take_pending(a));
  bitmap->mark_pending(a, 2 * uint64_t{granularity_bytes}, 1);
  bitmap->mark_pending(b, 3 * uint64_t{granularity_bytes}, 1);
  bitmap->mark(4 * uint64_t{granularity_bytes}, 1);
  require_ok(bitmap->mark_suspect(b, 5 * uint64_t{granularity_bytes}, 1, SuspicionCause::kOrdered));
  require_ok(bitmap->close());
  return path;
}

}  // namespace

TEST_CASE("T11: each map keeps its bits, and the new area is pending for every target") {
  // Ends inside a block, at a block's end, at a page's end of the map, inside the last block.
  for (const uint64_t size : {10 * kBlock, 10 * kBlock - 1, 32768 * kBlock, 32767 * kBlock + 5}) {
    for (const uint64_t growth : {uint64_t{1}, kBlock - 1, kBlock, 3 * kBlock, 70'000 * kBlock}) {
      CAPTURE(size);
      CAPTURE(growth);
      TempDirectory directory(memory_directory());
      const std::string path = make_scene(directory, size, kBlock);
      auto bitmap = open_bitmap(path, size);
      grow(*bitmap, size + growth);
      CHECK(bitmap->disk_size_bytes() == size + growth);
      CHECK(bitmap->granularity_bytes() == kBlock);
      const auto grown = range(size / kBlock, (size + growth - 1) / kBlock + 1);
      CHECK(blocks_of(*bitmap, MapId::staged(0)) == range(0, 1));
      CHECK(blocks_of(*bitmap, MapId::in_flight(0)) == range(1, 2));
      CHECK(blocks_of(*bitmap, MapId::pending(0)) == joined(range(2, 3), grown));
      CHECK(blocks_of(*bitmap, MapId::pending(1)) == joined(range(3, 4), grown));
      CHECK(blocks_of(*bitmap, MapId::in_flight(1)).empty());
      CHECK(blocks_of(*bitmap, MapId::live()) == range(4, 5));
      CHECK(blocks_of(*bitmap, MapId::suspect(0)).empty());
      CHECK(blocks_of(*bitmap, MapId::suspect(1)) == range(5, 6));
      CHECK(bitmap->suspicion_count(1) == 0);  // counts from the open
      CHECK(directory.entry_count() == 1);
      require_ok(bitmap->close());
      auto again = open_bitmap(path, size + growth);
      CHECK(again->opened_clean());
      CHECK(blocks_of(*again, MapId::pending(1)) == joined(range(3, 4), grown));
      CHECK(blocks_of(*again, MapId::live()) == range(4, 5));
      CHECK(blocks_of(*again, MapId::suspect(1)) == range(5, 6));
      CHECK(again->suspicion_causes(1) == SuspicionCauses(SuspicionCause::kOrdered));
    }
  }
}

TEST_CASE("T10: a disk that outgrows its map gets coarser blocks, and each mark keeps its bytes") {
  constexpr uint64_t kLargest = kMaxMapBytes * 8 * kBlock;  // of blocks of 4 KiB
  TempDirectory directory;
  const std::string path = directory.file("b");
  auto bitmap = create_bitmap(path, kLargest);
  const uint32_t slot = add_target(*bitmap, kReplicaA);
  bitmap->mark_pending(slot, 5 * kBlock, 1);
  bitmap->mark_pending(slot, 1000 * kBlock, 3 * kBlock);
  bitmap->mark(kLargest - 1, 1);
  require_ok(bitmap->mark_suspect(slot, 7 * kBlock, 1, SuspicionCause::kModified));
  grow(*bitmap, kLargest + 1);
  CHECK(bitmap->granularity_bytes() == 2 * kBlock);
  CHECK(bitmap->block_count() == kLargest / (2 * kBlock) + 1);
  CHECK(bitmap->dirty_block_count(MapId::pending(slot)) == 4);
  for (const uint64_t block :
       {uint64_t{2}, uint64_t{500}, uint64_t{501}, bitmap->block_count() - 1}) {
    CHECK(bitmap->is_dirty(MapId::pending(slot), block));
  }
  CHECK(bitmap->dirty_block_count(MapId::live()) == 1);
  CHECK(bitmap->is_dirty(MapId::live(), bitmap->block_count() - 2));
  CHECK(bitmap->dirty_block_count(MapId::suspect(slot)) == 1);
  CHECK(bitmap->is_dirty(MapId::suspect(slot), 3));
  CHECK(bitmap->suspicion_count(slot) == 1);  // of a comparison that spans the growth
}

TEST_CASE("T11: a disk that grew while its bitmap was closed has its new area pending") {
  TempDirectory directory;
  const uint64_t size = 10 * kBlock + 7;
  const std::string path = make_scene(directory, size, kBlock);
  auto bitmap = open_bitmap(path, 20 * kBlock);
  CHECK(bitmap->opened_clean());
  CHECK(bitmap->disk_size_bytes() == 20 * kBlock);
  CHECK(blocks_of(*bitmap, MapId::pending(0)) == joined(range(2, 3), range(10, 20)));
  CHECK(blocks_of(*bitmap, MapId::pending(1)) == joined(range(3, 4), range(10, 20)));
  CHECK(blocks_of(*bitmap, MapId::in_flight(0)) == range(1, 2));
}

TEST_CASE("T11: a disk without a target keeps its new area marked for the first one to come") {
  TempDirectory directory;
  auto bitmap = create_bitmap(directory.file("b"), 4 * kBlock);
  grow(*bitmap, 6 * kBlock);
  CHECK(blocks_of(*bitmap, MapId::live()) == range(4, 6));
}

TEST_CASE("a growth that is given up leaves the map as it was, and the next one works") {
  TempDirectory directory;
  auto bitmap = create_bitmap(directory.file("b"), 4 * kBlock);
  CHECK(bitmap->begin_growth(4 * kBlock).code() == ErrorCode::kInvalidArgument);
  require_ok(bitmap->begin_growth(9 * kBlock));
  CHECK(directory.entry_count() == 2);
  bitmap->mark(0, 1);
  bitmap->give_up_growth();
  CHECK(directory.entry_count() == 1);
  CHECK(bitmap->disk_size_bytes() == 4 * kBlock);
  grow(*bitmap, 5 * kBlock);
  CHECK(blocks_of(*bitmap, MapId::live()) == joined(range(0, 1), range(4, 5)));
}

TEST_CASE("a growing bitmap stays locked, under both names of its life") {
  TempDirectory directory;
  const std::string path = directory.file("b");
  auto bitmap = create_bitmap(path, 4 * kBlock);
  require_ok(bitmap->begin_growth(8 * kBlock));
  CHECK(open_error(path, 4 * kBlock) == ErrorCode::kInUse);
  require_ok(bitmap->finish_growth());
  CHECK(open_error(path, 8 * kBlock) == ErrorCode::kInUse);
  require_ok(bitmap->close());
  CHECK(open_error(path, 8 * kBlock) == ErrorCode::kOk);
}

// Of two threads that marked every second block each.
static uint64_t lost_marks(const DirtyBitmap& bitmap,
                           const std::array<uint64_t, 2>& marked_counts) {
  uint64_t lost = 0;
  for (uint64_t thread = 0; thread < 2; ++thread) {
    for (uint64_t i = 0; i < marked_counts[thread]; ++i) {
      lost += !bitmap.is_dirty(MapId::live(), thread + 2 * i);
    }
  }
  return lost;
}

TEST_CASE("T11: marks of other threads go on while the map grows, and none is lost") {
  constexpr uint64_t kBlocks = 1 << 21;
  constexpr int kGrowths = 40;
  TempDirectory directory(memory_directory());
  const std::string path = directory.file("b");
  auto bitmap = create_bitmap(path, kBlocks * kBlock);
  const uint32_t slot = add_target(*bitmap, kReplicaA);
  std::atomic<int> growth{0};
  std::array<std::atomic<int>, 2> seen{};
  std::atomic<int> blind_looks{0};
  std::array<uint64_t, 2> marked_counts{};
  const auto mark = [&](size_t thread) {
    // Each block once: a mark that is lost is made good by no other.
    for (uint64_t block = thread; growth.load() <= kGrowths; block += 2) {
      // What was marked before this is seen by who waits for it: the gate's part.
      seen[thread].store(growth.load());
      if (block >= kBlocks) continue;
      bitmap->mark(block * kBlock, 1);
      if (!bitmap->is_dirty(MapId::live(), block)) ++blind_looks;
      marked_counts[thread] = block / 2 + 1;
    }
    seen[thread].store(kGrowths + 1);
  };
  std::thread first(mark, 0);
  std::thread second(mark, 1);
  for (int i = 1; i <= kGrowths; ++i) {
    require_ok(bitmap->begin_growth((kBlocks + static_cast<uint64_t>(i)) * kBlock));
    growth.store(i);
    while (seen[0].load() < i || seen[1].load() < i) std::this_thread::yield();
    require_ok(bitmap->finish_growth());
  }
  growth.store(kGrowths + 1);
  first.join();
  second.join();
  CHECK(blind_looks.load() == 0);
  CHECK(lost_marks(*bitmap, marked_counts) == 0);
  CHECK(blocks_of(*bitmap, MapId::pending(slot)) == range(kBlocks, kBlocks + kGrowths));
}
