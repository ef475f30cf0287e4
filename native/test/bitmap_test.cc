#include <sys/stat.h>

#include <limits>

#include "bitmap_support.h"

using namespace tidemark;

namespace {

constexpr uint64_t kBlock = 4096;
constexpr uint64_t kAny = std::numeric_limits<uint64_t>::max();

using Blocks = std::set<uint64_t>;

uint64_t allocated_bytes(const std::string& path) {
  struct stat found {};
  REQUIRE(::stat(path.c_str(), &found) == 0);
  return static_cast<uint64_t>(found.st_blocks) * 512;
}

}  // namespace

TEST_CASE("granularity is 4 KiB and doubles so that a map is at most 32 MiB") {
  CHECK(default_granularity_bytes(1) == 4096);
  CHECK(default_granularity_bytes(1ULL << 40) == 4096);
  CHECK(default_granularity_bytes((1ULL << 40) + 1) == 8192);
  CHECK(default_granularity_bytes(1ULL << 50) == 4 << 20);
  CHECK(default_granularity_bytes(kAny) == 1U << 31);
}

TEST_CASE("T9: a mark rounds out, and what it does not touch stays clean") {
  TempDirectory directory;
  auto bitmap = create_bitmap(directory.file("b"), 10 * kBlock);
  bitmap->mark(kBlock - 1, 2);
  bitmap->mark(5 * kBlock, kBlock);
  bitmap->mark(7 * kBlock, 0);
  CHECK(blocks_of(*bitmap, MapId::live()) == Blocks{0, 1, 5});
}

TEST_CASE("T9: a clear rounds in, and the partial last block ends with the disk") {
  TempDirectory directory;
  const uint64_t size = 9 * kBlock + 100;
  auto bitmap = create_bitmap(directory.file("b"), size);
  const uint32_t slot = add_target(*bitmap, kReplicaA);
  bitmap->mark_pending(slot, 0, size);
  bitmap->clear_pending(slot, 1, 2 * kBlock - 1);  // block 1
  bitmap->clear_pending(slot, 3 * kBlock, kBlock - 1);
  bitmap->clear_pending(slot, 5 * kBlock + 1, kBlock);
  bitmap->clear_pending(slot, 9 * kBlock, 99);
  CHECK(blocks_of(*bitmap, MapId::pending(slot)) == Blocks{0, 2, 3, 4, 5, 6, 7, 8, 9});
  bitmap->clear_pending(slot, 9 * kBlock, 100);
  bitmap->clear_pending(slot, 0, kBlock);
  CHECK(blocks_of(*bitmap, MapId::pending(slot)) == Blocks{2, 3, 4, 5, 6, 7, 8});
}

TEST_CASE("T10: bits past the end stay zero, whatever is marked") {
  TempDirectory directory;
  for (const uint64_t size : {uint64_t{1}, kBlock - 1, kBlock, 64 * kBlock, 64 * kBlock + 1}) {
    const std::string path = directory.file(std::to_string(size));
    auto bitmap = create_bitmap(path, size);
    bitmap->mark(0, kAny);
    bitmap->mark(size, kBlock);
    bitmap->mark(kAny, kAny);
    CHECK(bitmap->dirty_block_count(MapId::live()) == bitmap->block_count());
    CHECK_FALSE(bitmap->is_dirty(MapId::live(), bitmap->block_count()));
    const auto extent = bitmap->next_extent(MapId::live(), 0, kAny);
    REQUIRE(extent.has_value());
    CHECK(extent->length_bytes == size);
    require_ok(bitmap->close());
    CHECK(open_error(path, size) == ErrorCode::kOk);  // a bit past the end would be kCorrupt
  }
}

TEST_CASE("extents are runs, cut to the limit and to the disk, and start where asked") {
  TempDirectory directory;
  const uint64_t size = 2000 * kBlock + 5;
  auto bitmap = create_bitmap(directory.file("b"), size);
  bitmap->mark(3 * kBlock, 200 * kBlock);
  bitmap->mark(size - 1, 1);
  const auto next = [&](uint64_t from, uint64_t limit) {
    const auto extent = bitmap->next_extent(MapId::live(), from, limit);
    return extent ? std::pair{extent->offset_bytes, extent->length_bytes}
                  : std::pair<uint64_t, uint64_t>{kAny, 0};
  };
  CHECK(next(0, kAny) == std::pair{3 * kBlock, 200 * kBlock});
  CHECK(next(0, 7 * kBlock) == std::pair{3 * kBlock, 7 * kBlock});
  CHECK(next(0, 10) == std::pair{3 * kBlock, uint64_t{10}});
  CHECK(next(100 * kBlock + 1, 2 * kBlock) == std::pair{100 * kBlock + 1, 2 * kBlock});
  CHECK(next(203 * kBlock - 1, kAny) == std::pair{203 * kBlock - 1, uint64_t{1}});
  CHECK(next(203 * kBlock, kAny) == std::pair{2000 * kBlock, uint64_t{5}});
  CHECK(next(size, kAny) == std::pair{kAny, uint64_t{0}});
  CHECK(next(0, 0) == std::pair{kAny, uint64_t{0}});
}

TEST_CASE("a bit goes live, closed, pending, in-flight, and a commit drops it") {
  TempDirectory directory;
  auto bitmap = create_bitmap(directory.file("b"), 100 * kBlock);
  const uint32_t a = add_target(*bitmap, kReplicaA);
  const uint32_t b = add_target(*bitmap, kReplicaB);
  bitmap->mark(0, kBlock);
  bitmap->flip();
  bitmap->mark(kBlock, kBlock);
  CHECK(blocks_of(*bitmap, MapId::closed()) == Blocks{0});
  CHECK(blocks_of(*bitmap, MapId::live()) == Blocks{1});
  require_ok(bitmap->merge_closed());
  CHECK(blocks_of(*bitmap, MapId::closed()).empty());
  CHECK(blocks_of(*bitmap, MapId::pending(a)) == Blocks{0});
  CHECK(blocks_of(*bitmap, MapId::pending(b)) == Blocks{0});
  require_ok(bitmap->take_pending(a));
  CHECK(blocks_of(*bitmap, MapId::pending(a)).empty());
  CHECK(blocks_of(*bitmap, MapId::in_flight(a)) == Blocks{0});
  require_ok(bitmap->commit(a));
  CHECK(blocks_of(*bitmap, MapId::in_flight(a)).empty());
  CHECK(blocks_of(*bitmap, MapId::pending(b)) == Blocks{0});
}

TEST_CASE("T22: what is given back is pending again, beside newer changes") {
  TempDirectory directory;
  auto bitmap = create_bitmap(directory.file("b"), 100 * kBlock);
  const uint32_t slot = add_target(*bitmap, kReplicaA);
  bitmap->mark_pending(slot, 0, kBlock);
  require_ok(bitmap->take_pending(slot));
  bitmap->mark_pending(slot, 5 * kBlock, kBlock);
  require_ok(bitmap->give_back(slot));
  CHECK(blocks_of(*bitmap, MapId::pending(slot)) == Blocks{0, 5});
  CHECK(bitmap->dirty_block_count(MapId::in_flight(slot)) == 0);
}

TEST_CASE("a limited take moves the first blocks and leaves the rest pending") {
  TempDirectory directory;
  auto bitmap = create_bitmap(directory.file("b"), 200 * kBlock);
  const uint32_t slot = bitmap->add_target(Uuid::random()).value();
  bitmap->mark_pending(slot, 3 * kBlock, 2 * kBlock);
  bitmap->mark_pending(slot, 60 * kBlock, 10 * kBlock);
  REQUIRE(bitmap->take_pending(slot, 4 * kBlock).is_ok());
  CHECK(blocks_of(*bitmap, MapId::in_flight(slot)) == Blocks{3, 4, 60, 61});
  CHECK(blocks_of(*bitmap, MapId::pending(slot)) == Blocks{62, 63, 64, 65, 66, 67, 68, 69});
  REQUIRE(bitmap->take_pending(slot, 1).is_ok());
  CHECK(blocks_of(*bitmap, MapId::in_flight(slot)) == Blocks{3, 4, 60, 61, 62});
}

TEST_CASE("staged blocks return on unstage, and a commit drops them with in-flight") {
  TempDirectory directory;
  auto bitmap = create_bitmap(directory.file("b"), 100 * kBlock);
  const uint32_t slot = add_target(*bitmap, kReplicaA);
  bitmap->mark_pending(slot, 0, kBlock);
  require_ok(bitmap->take_pending(slot));
  require_ok(bitmap->stage(slot));
  CHECK(blocks_of(*bitmap, MapId::staged(slot)) == Blocks{0});
  require_ok(bitmap->unstage(slot));
  CHECK(blocks_of(*bitmap, MapId::pending(slot)) == Blocks{0});
  require_ok(bitmap->take_pending(slot));
  require_ok(bitmap->stage(slot));
  bitmap->mark_pending(slot, kBlock, kBlock);
  require_ok(bitmap->take_pending(slot));
  require_ok(bitmap->commit(slot));
  CHECK(bitmap->dirty_block_count(MapId::staged(slot)) == 0);
  CHECK(bitmap->dirty_block_count(MapId::in_flight(slot)) == 0);
}

TEST_CASE("without a target, bits wait in the live map for the first one") {
  TempDirectory directory;
  const std::string path = directory.file("b");
  auto bitmap = create_bitmap(path, 100 * kBlock);
  bitmap->mark(0, kBlock);
  bitmap->flip();
  bitmap->mark(kBlock, kBlock);
  require_ok(bitmap->merge_closed());
  CHECK(blocks_of(*bitmap, MapId::live()) == Blocks{0, 1});
  bitmap->flip();
  bitmap->mark(2 * kBlock, kBlock);
  bitmap.reset();
  bitmap = open_bitmap(path, 100 * kBlock);
  CHECK(blocks_of(*bitmap, MapId::live()) == Blocks{0, 1, 2});
  CHECK(blocks_of(*bitmap, MapId::closed()).empty());
}

TEST_CASE("T12: a slot without target answers that everything is dirty") {
  TempDirectory directory;
  const auto bitmap = create_bitmap(directory.file("b"), 10 * kBlock + 1);
  CHECK(bitmap->is_dirty(MapId::pending(3), 10));
  CHECK_FALSE(bitmap->is_dirty(MapId::pending(3), 11));
  CHECK(bitmap->dirty_block_count(MapId::staged(99)) == 11);
  CHECK(bitmap->next_extent(MapId::in_flight(0), 5, kAny)->length_bytes == 10 * kBlock - 4);
  CHECK(bitmap->take_pending(3).code() == ErrorCode::kNotFound);
  CHECK(bitmap->remove_target(99).code() == ErrorCode::kNotFound);
}

TEST_CASE("there are 16 targets, each once, and a removed one's slot is used again, empty") {
  TempDirectory directory;
  auto bitmap = create_bitmap(directory.file("b"), 100 * kBlock);
  std::vector<Uuid> ids;
  for (uint32_t i = 0; i < kMaxTargets; ++i) {
    ids.push_back(Uuid::random());
    CHECK(add_target(*bitmap, ids.back()) == i);
  }
  CHECK(bitmap->add_target(Uuid::random()).status().code() == ErrorCode::kLimitReached);
  CHECK(bitmap->add_target(ids[7]).status().code() == ErrorCode::kAlreadyExists);
  CHECK(bitmap->add_target(Uuid{}).status().code() == ErrorCode::kInvalidArgument);
  CHECK(bitmap->find_target(ids[15]) == 15);
  bitmap->mark_pending(4, 0, kBlock);
  require_ok(bitmap->remove_target(4));
  CHECK_FALSE(bitmap->find_target(ids[4]).has_value());
  CHECK(bitmap->targets().size() == kMaxTargets - 1);
  CHECK(add_target(*bitmap, kReplicaA) == 4);
  CHECK(bitmap->dirty_block_count(MapId::pending(4)) == 0);
}

TEST_CASE("T12: what a new target starts with is marked before the target is listed") {
  TempDirectory directory;
  auto bitmap = create_bitmap(directory.file("b"), 100 * kBlock);
  const ByteExtent start[] = {{kBlock + 1, 1}, {90 * kBlock, 10 * kBlock}};
  const uint32_t slot = bitmap->add_target(Uuid::random(), start).value();
  CHECK(blocks_of(*bitmap, MapId::pending(slot)) ==
        Blocks{1, 90, 91, 92, 93, 94, 95, 96, 97, 98, 99});
}

TEST_CASE("targets and every map survive a clean reopen, and the clean flag says so") {
  TempDirectory directory;
  const std::string path = directory.file("b");
  auto bitmap = create_bitmap(path, 100 * kBlock);
  CHECK(bitmap->opened_clean());
  const uint32_t slot = add_target(*bitmap, kReplicaA);
  bitmap->mark_pending(slot, 3 * kBlock, kBlock);
  require_ok(bitmap->take_pending(slot));
  require_ok(bitmap->stage(slot));
  bitmap->mark_pending(slot, 2 * kBlock, kBlock);
  require_ok(bitmap->take_pending(slot));
  bitmap->mark_pending(slot, kBlock, kBlock);
  bitmap->mark(0, kBlock);
  require_ok(bitmap->close());
  require_ok(bitmap->close());
  CHECK(bitmap->take_pending(slot).code() == ErrorCode::kClosed);
  CHECK(bitmap->merge_closed().code() == ErrorCode::kClosed);
  CHECK(bitmap->add_target(kReplicaB).status().code() == ErrorCode::kClosed);
  bitmap = open_bitmap(path, 100 * kBlock);
  CHECK(bitmap->opened_clean());
  CHECK(bitmap->find_target(kReplicaA) == slot);
  CHECK(blocks_of(*bitmap, MapId::live()) == Blocks{0});
  CHECK(blocks_of(*bitmap, MapId::pending(slot)) == Blocks{1});
  CHECK(blocks_of(*bitmap, MapId::in_flight(slot)) == Blocks{2});
  CHECK(blocks_of(*bitmap, MapId::staged(slot)) == Blocks{3});
}

TEST_CASE("T4: after an unclean end, live and in-flight are pending and staged stays") {
  TempDirectory directory;
  const std::string path = directory.file("b");
  auto bitmap = create_bitmap(path, 100 * kBlock);
  const uint32_t a = add_target(*bitmap, kReplicaA);
  const uint32_t b = add_target(*bitmap, kReplicaB);
  bitmap->mark_pending(a, 4 * kBlock, kBlock);
  require_ok(bitmap->take_pending(a));
  require_ok(bitmap->stage(a));
  bitmap->mark_pending(a, 3 * kBlock, kBlock);
  require_ok(bitmap->take_pending(a));
  bitmap->mark_pending(b, 2 * kBlock, kBlock);
  bitmap->mark(kBlock, kBlock);
  bitmap->flip();
  bitmap->mark(0, kBlock);
  bitmap.reset();
  bitmap = open_bitmap(path, 100 * kBlock);
  CHECK_FALSE(bitmap->opened_clean());
  CHECK(blocks_of(*bitmap, MapId::pending(a)) == Blocks{0, 1, 3});
  CHECK(blocks_of(*bitmap, MapId::pending(b)) == Blocks{0, 1, 2});
  CHECK(blocks_of(*bitmap, MapId::staged(a)) == Blocks{4});
  for (const MapId map : {MapId::live(), MapId::closed(), MapId::in_flight(a)}) {
    CHECK(bitmap->dirty_block_count(map) == 0);
  }
}

TEST_CASE("T3: after the end of a boot that never went quiet, every block is suspect") {
  TempDirectory directory;
  const std::string path = directory.file("b");
  for (const bool known_boot : {true, false}) {
    std::filesystem::remove(path);
    auto bitmap = create_bitmap(path, 100 * kBlock + 1);
    const uint32_t slot = add_target(*bitmap, kReplicaA);
    bitmap->mark(0, kBlock);
    bitmap.reset();
    edit_header(path, [&](uint8_t* at) {
      for (int i = 88; i < 104; ++i) at[i] = known_boot ? static_cast<uint8_t>(~at[i]) : 0;
    });
    bitmap = open_bitmap(path, 100 * kBlock + 1);
    CHECK(bitmap->dirty_block_count(MapId::suspect(slot)) == 101);
    CHECK(blocks_of(*bitmap, MapId::pending(slot)) == Blocks{0});
    bitmap->clear_suspect(slot, 0, 100 * kBlock + 1);
    bitmap.reset();  // unclean again, on this boot: trusted again
    CHECK(open_bitmap(path, 100 * kBlock + 1)->dirty_block_count(MapId::suspect(slot)) == 0);
  }
}

TEST_CASE("a close between flip and merge loses nothing and the next flip finds closed empty") {
  TempDirectory directory;
  const std::string path = directory.file("b");
  auto bitmap = create_bitmap(path, 100 * kBlock);
  const uint32_t slot = add_target(*bitmap, kReplicaA);
  bitmap->mark(0, kBlock);
  bitmap->flip();
  bitmap->mark(kBlock, kBlock);
  require_ok(bitmap->close());
  bitmap = open_bitmap(path, 100 * kBlock);
  CHECK(blocks_of(*bitmap, MapId::pending(slot)) == Blocks{0});
  CHECK(blocks_of(*bitmap, MapId::closed()).empty());
  CHECK(blocks_of(*bitmap, MapId::live()) == Blocks{1});
}

TEST_CASE("a bitmap in use is refused until it is closed or destroyed") {
  TempDirectory directory;
  const std::string path = directory.file("b");
  auto bitmap = create_bitmap(path, kBlock);
  CHECK(open_error(path, kBlock) == ErrorCode::kInUse);
  require_ok(bitmap->close());
  auto second = open_bitmap(path, kBlock);
  CHECK(open_error(path, kBlock) == ErrorCode::kInUse);
  second.reset();
  CHECK(open_error(path, kBlock) == ErrorCode::kOk);
}

TEST_CASE("create never overwrites, and refuses what cannot be a bitmap") {
  TempDirectory directory;
  const std::string path = directory.file("b");
  const auto code = [&](const std::string& where, const DirtyBitmap::Parameters& parameters) {
    return DirtyBitmap::create(where, parameters).status().code();
  };
  create_bitmap(path, kBlock)->mark(0, 1);
  CHECK(code(path, {kDisk, kBlock, 0}) == ErrorCode::kAlreadyExists);
  const std::string fresh = directory.file("fresh");
  CHECK(code(fresh, {kDisk, 0, 0}) == ErrorCode::kInvalidArgument);
  CHECK(code(fresh, {kDisk, kBlock, 2048}) == ErrorCode::kInvalidArgument);
  CHECK(code(fresh, {kDisk, kBlock, 12288}) == ErrorCode::kInvalidArgument);
  CHECK(code(fresh, {kDisk, 1ULL << 50, 4096}) == ErrorCode::kInvalidArgument);
  CHECK(code(fresh, {kDisk, kAny, 0}) == ErrorCode::kInvalidArgument);
  CHECK(code(fresh, {Uuid{}, kBlock, 0}) == ErrorCode::kInvalidArgument);
  CHECK(code(directory.file("no/such"), {kDisk, kBlock, 0}) == ErrorCode::kNotFound);
  CHECK(directory.entry_count() == 1);
  CHECK(open_error(fresh, kBlock) == ErrorCode::kNotFound);
}

TEST_CASE("maps are allocated when their target is added, and released with it") {
  TempDirectory directory;
  const std::string path = directory.file("b");
  const uint64_t size = 64ULL << 30;  // maps of 2 MiB
  auto bitmap = create_bitmap(path, size);
  const uint64_t before = allocated_bytes(path);
  CHECK(before >= (4 << 20) + (256 << 10));
  CHECK(before < 6 << 20);
  const uint32_t slot = add_target(*bitmap, kReplicaA);
  CHECK(allocated_bytes(path) >= before + (6 << 20));
  bitmap->mark_pending(slot, 0, size);
  require_ok(bitmap->remove_target(slot));
  CHECK(allocated_bytes(path) < before + (1 << 20));
}

TEST_CASE("T10: a disk of 1 PiB has a map of 32 MiB, and its last block is found") {
  TempDirectory directory;
  const uint64_t size = 1ULL << 50;
  auto bitmap = create_bitmap(directory.file("b"), size, 0);
  CHECK(bitmap->granularity_bytes() == 4 << 20);
  CHECK(bitmap->block_count() == 1ULL << 28);
  CHECK_FALSE(bitmap->next_extent(MapId::live(), 0, kAny).has_value());
  bitmap->mark(size - 1, 1);
  const auto extent = bitmap->next_extent(MapId::live(), 0, kAny);
  REQUIRE(extent.has_value());
  CHECK(extent->offset_bytes == size - (4 << 20));
  CHECK(extent->length_bytes == 4 << 20);
  CHECK(bitmap->dirty_block_count(MapId::live()) == 1);
}
