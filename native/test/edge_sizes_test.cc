// T10, T13, T15, T21: sizes at the edges on the whole way from a write to a commit,
// a write that must show, counters at their ends, and a buffer that changes.
#include "bitmap_support.h"
#include "device/sync_io.h"
#include "tracking_support.h"

using namespace tidemark;
using namespace tidemark::tracking_test;
using tidemark::create_bitmap;
using tidemark::open_bitmap;

namespace {

constexpr uint64_t kTiB = 1ULL << 40;

// Every map ends with the disk: the last byte marks the last block, and the extent
// that it makes is cut to the disk.
void check_edges(DirtyBitmap& bitmap, uint32_t slot, uint64_t size_bytes) {
  const uint64_t block_bytes = bitmap.granularity_bytes();
  const uint64_t last_block = (size_bytes - 1) / block_bytes;
  REQUIRE(bitmap.block_count() == last_block + 1);
  bitmap.mark(size_bytes - 1, 1);
  bitmap.mark(size_bytes - 1, 1000);  // past the end: not marked, not an error
  bitmap.mark(size_bytes, 1);
  CHECK(bitmap.dirty_block_count(MapId::live()) == 1);
  bitmap.flip();
  require_ok(bitmap.merge_closed());
  require_ok(bitmap.take_pending(slot));
  const auto extent = bitmap.next_extent(MapId::in_flight(slot), 0, UINT64_MAX);
  REQUIRE(extent.has_value());
  CHECK(extent->offset_bytes == last_block * block_bytes);
  CHECK(extent->offset_bytes + extent->length_bytes == size_bytes);
  CHECK_FALSE(bitmap.next_extent(MapId::in_flight(slot), size_bytes, UINT64_MAX).has_value());
  CHECK_FALSE(bitmap.is_dirty(MapId::in_flight(slot), last_block + 1));
  require_ok(bitmap.commit(slot));
}

}  // namespace

TEST_CASE("T10: every size has its last block, and no bit past it") {
  const uint64_t sizes[] = {1,
                            511,
                            4095,
                            4096,
                            4097,
                            32768 * 4096,
                            32768 * 4096 + 1,
                            (1ULL << 32) - 1,
                            1ULL << 32,
                            (1ULL << 32) + 1,
                            kTiB - 4096,
                            kTiB,
                            kTiB + 4096,
                            64 * kTiB,
                            64 * kTiB + 513};
  for (const uint64_t size_bytes : sizes) {
    CAPTURE(size_bytes);
    TempDirectory directory(memory_directory());
    auto bitmap = create_bitmap(directory.file("b"), size_bytes, 0);
    const uint32_t slot = tidemark::add_target(*bitmap, kReplicaA);
    check_edges(*bitmap, slot, size_bytes);
    bitmap->mark(0, size_bytes);
    CHECK(bitmap->dirty_block_count(MapId::live()) == bitmap->block_count());
    require_ok(bitmap->close());
    bitmap.reset();
    // Bits past the end would be refused here.
    bitmap = open_bitmap(directory.file("b"), size_bytes);
    CHECK(bitmap->dirty_block_count(MapId::live()) == bitmap->block_count());
  }
}

TEST_CASE(
    "T10, T11: cut from and to sizes at the edges, a map has its last block and no bit past it") {
  const uint64_t sizes[] = {1, 4096, 4097, 32768 * 4096, (1ULL << 32) + 1, kTiB, 64 * kTiB + 513};
  for (size_t from = 1; from < std::size(sizes); ++from) {
    for (size_t to = 0; to < from; ++to) {
      CAPTURE(sizes[from]);
      CAPTURE(sizes[to]);
      TempDirectory directory(memory_directory());
      auto bitmap = create_bitmap(directory.file("b"), sizes[from], 0);
      const uint32_t slot = tidemark::add_target(*bitmap, kReplicaA);
      const uint32_t granularity_bytes = bitmap->granularity_bytes();
      bitmap->mark_pending(slot, 0, sizes[from]);
      require_ok(bitmap->begin_shrink(sizes[to]));
      require_ok(bitmap->finish_growth());
      CHECK(bitmap->granularity_bytes() == granularity_bytes);
      CHECK(bitmap->dirty_block_count(MapId::pending(slot)) == bitmap->block_count());
      require_ok(bitmap->take_pending(slot));
      require_ok(bitmap->commit(slot));
      check_edges(*bitmap, slot, sizes[to]);
      require_ok(bitmap->close());
      bitmap.reset();
      bitmap = open_bitmap(directory.file("b"), sizes[to]);
      CHECK(bitmap->opened_clean());
    }
  }
}

TEST_CASE("T10: a disk of more than 2^32 blocks of 4 KiB gets coarser ones") {
  TempDirectory directory(memory_directory());
  const uint64_t size_bytes = ((1ULL << 32) + 5) * 4096;
  auto bitmap = create_bitmap(directory.file("b"), size_bytes, 0);
  CHECK(bitmap->block_count() <= kMaxMapBytes * 8);
  CHECK(bitmap->granularity_bytes() > 4096);
  const uint32_t slot = tidemark::add_target(*bitmap, kReplicaA);
  check_edges(*bitmap, slot, size_bytes);
}

TEST_CASE("T10: a disk smaller than a block is tracked and captured whole") {
  const ScratchDirectory scratch;
  const Disk disk = make_disk(scratch, make_memory_device(1000));
  const uint32_t slot = tracking_test::add_target(*disk.device);
  REQUIRE(write_sync(*disk.device, 999, filled(1, 7)).is_ok());
  const auto capture = checkpoint(disk.device, slot);
  REQUIRE(write_sync(*disk.device, 999, filled(1, 8)).is_ok());
  CHECK(capture->dirty_bytes() == 1000);
  CHECK(read_capture(*capture, 999, 1) == filled(1, 7));
  CHECK(read_capture(*capture, 0, 999) == filled(999, 0));
}

TEST_CASE("T13: a write through the filter shows in the next map, and one past it does not") {
  const ScratchDirectory scratch;
  const Disk disk = make_disk(scratch, make_memory_device(8 * kBlock));
  const Uuid id = Uuid::random();
  const uint32_t slot = tracking_test::add_target(*disk.device, id);
  const auto is_shown = [&] {
    std::vector<DeviceExtent> extents;
    const std::string context = "qemu:dirty-bitmap:" + id.to_string();
    REQUIRE(disk.device->query_extents(context, 3 * kBlock, kBlock, 8, extents).is_ok());
    return extents.at(0).flags == kExtentDirty;
  };
  REQUIRE(write_sync(*disk.backing, 3 * kBlock, filled(kBlock, 1)).is_ok());
  CHECK_FALSE(is_shown());
  REQUIRE(write_sync(*disk.device, 3 * kBlock, filled(kBlock, 1)).is_ok());
  CHECK(is_shown());
  CHECK(extents_of(*checkpoint(disk.device, slot)) == "3+1");
}

TEST_CASE("T15: a sector whose sequence wraps is written, read and believed as before") {
  TempDirectory directory;
  const std::string path = directory.file("b");
  constexpr size_t kSequenceAt = 104;
  {
    auto bitmap = create_bitmap(path, 100 * kBlock);
    tidemark::add_target(*bitmap, kReplicaA);
    bitmap->mark(5 * kBlock, 1);
    require_ok(bitmap->close());
  }
  edit_header(path, [](uint8_t* sector) { store_le<uint64_t>(sector + kSequenceAt, UINT64_MAX); });
  for (int i = 0; i < 3; ++i) {
    auto bitmap = open_bitmap(path, 100 * kBlock);
    CHECK(bitmap->opened_clean());
    CHECK(bitmap->find_target(kReplicaA).has_value());
    CHECK(bitmap->is_dirty(MapId::live(), 5));
    require_ok(bitmap->close());
  }
}

TEST_CASE("T21: a buffer that changes under its write: the next capture is what the disk holds") {
  const ScratchDirectory scratch;
  const auto backing = std::make_shared<StepDevice>(make_memory_device(8 * kBlock));
  const Disk disk = make_disk(scratch, backing);
  const uint32_t slot = tracking_test::add_target(*disk.device);
  write_blocks(*disk.device, 2, 1, 1);
  const auto first = checkpoint(disk.device, slot);
  Request write(IoOp::kWrite, 2 * kBlock, kBlock, 2);
  backing->hold(IoOp::kWrite);
  write.submit(*disk.device);
  backing->wait_for_held(1);
  write.buffer()[100] = std::byte{3};
  CHECK(read_capture(*first, 2 * kBlock, kBlock) == filled(kBlock, 1));
  backing->release_all();
  REQUIRE(write.wait() == 0);
  CHECK(read_capture(*first, 2 * kBlock, kBlock) == filled(kBlock, 1));
  first->close();
  REQUIRE(disk.device->commit(slot).is_ok());
  const auto second = checkpoint(disk.device, slot);
  write.buffer()[200] = std::byte{4};
  const Bytes on_disk = content_of(*disk.device);
  CHECK(read_capture(*second, 2 * kBlock, kBlock) ==
        Bytes(on_disk.begin() + 2 * kBlock, on_disk.begin() + 3 * kBlock));
}
