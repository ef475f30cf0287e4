// Growing: a new file beside the old one takes over, and at every instant the
// file that bears the name has every bit.
//
//   begin    the larger file is made, the new area pending; marks go to both
//   (the caller waits until the marks that began before have returned)
//   finish   what the old maps have is marked there too; that is made durable; the
//            rename; only then marks go to the larger maps alone
//
// Killed before the rename, the next open finds the old map, all of it valid,
// and a disk that is larger: it grows again. Killed after it, it finds the new.
#include <algorithm>
#include <cassert>

#include "bitmap/dirty_bitmap_impl.h"
#include "common/failpoint.h"

namespace tidemark {

namespace {

Status cannot_grow(const std::string& path, const std::string& reason) {
  return {ErrorCode::kInvalidArgument, "Cannot resize the bitmap " + path + ": because " + reason};
}

// The smallest that fits, from the present one on: 0 where none does.
uint32_t granularity_for(uint64_t disk_size_bytes, uint32_t granularity_bytes) noexcept {
  while (granularity_bytes != 0 && !BitmapLayout::is_valid(disk_size_bytes, granularity_bytes)) {
    granularity_bytes *= 2;
  }
  return granularity_bytes;
}

// Both granularities are powers of two, the destination's is not the finer one. It may
// end before the source does.
void copy_marks(const BlockMap& source, BlockMap& destination, uint32_t shift,
                uint64_t block_count) noexcept {
  uint64_t from = 0;
  while (const auto run = source.next_run(from, UINT64_MAX)) {
    if (run->first >> shift >= block_count) return;
    from = run->first + run->count;
    destination.mark(run->first >> shift, std::min((from - 1) >> shift, block_count - 1));
  }
}

}  // namespace

Result<std::unique_ptr<DirtyBitmap::Impl>> DirtyBitmap::Impl::make_successor(
    uint64_t new_size_bytes) const {
  BitmapHeader header = file.header();
  header.granularity_bytes = granularity_for(new_size_bytes, header.granularity_bytes);
  header.disk_size_bytes = new_size_bytes;
  header.clean = false;
  if (header.granularity_bytes == 0) {
    return cannot_grow(file.path(), "no disk has " + std::to_string(new_size_bytes) + " bytes.");
  }
  file.remove_grown();
  Result<BitmapFile> made =
      BitmapFile::create(file.storage(), BitmapFile::grown_path(file.path()), header);
  if (!made.is_ok()) return made.status();
  made.value().store_heartbeat();
  // Its intent page says nothing yet, so that all of it counts as marked.
  auto made_maps =
      std::make_unique<Impl>(std::move(made).value(), opened_clean, intents.durability());
  for (uint32_t slot = 0; slot < kMaxTargets; ++slot) {
    if (header.targets[slot].is_nil()) continue;
    Status status = made_maps->file.allocate_slot(slot);
    if (!status.is_ok()) return status;
    made_maps->load_target(slot);
  }
  if (new_size_bytes <= disk_size_bytes) return made_maps;
  const auto grown = made_maps->touched_blocks(disk_size_bytes, new_size_bytes - disk_size_bytes);
  for (BlockMap* map : made_maps->merge_destinations()) {
    map->mark(grown->first, grown->first + grown->count - 1);
  }
  return made_maps;
}

void DirtyBitmap::Impl::copy_marks_to(Impl& successor_maps) noexcept {
  const uint32_t shift = successor_maps.granularity_shift - granularity_shift;
  const uint64_t block_count = successor_maps.file.layout().block_count;
  const auto copy = [&](const BlockMap& from, BlockMap& to) {
    copy_marks(from, to, shift, block_count);
  };
  for (const BlockMap& map : live_maps) copy(map, successor_maps.live());
  for (uint32_t slot = 0; slot < kMaxTargets; ++slot) {
    if (slots[slot] == nullptr) continue;
    TargetMaps& to = *successor_maps.slots[slot];
    copy(slots[slot]->pending, to.pending);
    copy(slots[slot]->in_flight, to.in_flight);
    copy(slots[slot]->staged, to.staged);
    copy(slots[slot]->suspect, to.suspect);
    to.suspicion_count = slots[slot]->suspicion_count;
  }
}

namespace {

// After power loss the smaller file may have the name back: it is not to be believed
// then, and neither is the larger one.
template <typename Maps>
void name_may_be_lost(Maps& smaller, Maps& larger) {
  const Status reason(ErrorCode::kIo, "the name of the grown bitmap was not made durable");
  smaller.intents.distrust(reason);
  larger.intents.distrust(reason);
}

}  // namespace

Status DirtyBitmap::begin_growth(uint64_t disk_size_bytes) {
  if (disk_size_bytes > impl().disk_size_bytes) return begin_successor(disk_size_bytes);
  return cannot_grow(impl().file.path(), "the disk would not become larger.");
}

Status DirtyBitmap::begin_shrink(uint64_t disk_size_bytes) {
  if (disk_size_bytes < impl().disk_size_bytes) return begin_successor(disk_size_bytes);
  return cannot_grow(impl().file.path(), "the disk would not become smaller.");
}

Status DirtyBitmap::begin_successor(uint64_t disk_size_bytes) {
  Impl& present = impl();
  if (!present.file.is_open()) return present.check_usable(0);
  assert(present.successor.load() == nullptr);
  auto made = present.make_successor(disk_size_bytes);
  if (!made.is_ok()) {
    present.file.remove_grown();
    return made.status();
  }
  present.successor.store(&adopt(std::move(made).value()), std::memory_order_release);
  failpoint("bitmap.grow.begun");
  return Status::ok();
}

Status DirtyBitmap::finish_growth() {
  Impl& smaller = impl();
  Impl* const larger = smaller.successor.load();
  assert(larger != nullptr);
  smaller.copy_marks_to(*larger);
  Status status = larger->file.sync_everything();
  failpoint("bitmap.grow.merged");
  if (status.is_ok()) status = larger->file.replace(smaller.file.path());
  if (!status.is_ok()) {
    give_up_growth();
    return status;
  }
  if (larger->file.sync_has_failed()) name_may_be_lost(smaller, *larger);
  if (smaller.intents.is_started()) larger->intents.start();
  current_.store(larger, std::memory_order_release);
  smaller.intents.retire();
  smaller.file.close();
  failpoint("bitmap.grow.finished");
  return Status::ok();
}

// The larger maps stay: somebody may be marking them still.
void DirtyBitmap::give_up_growth() noexcept {
  Impl& smaller = impl();
  Impl* const larger = smaller.successor.exchange(nullptr);
  if (larger == nullptr) return;
  larger->intents.retire();
  larger->file.close();
  smaller.file.remove_grown();
}

Status DirtyBitmap::grow_to(uint64_t disk_size_bytes) {
  impl().file.remove_grown();
  if (disk_size_bytes == impl().disk_size_bytes) return Status::ok();
  if (Status status = begin_growth(disk_size_bytes); !status.is_ok()) return status;
  return finish_growth();
}

}  // namespace tidemark
