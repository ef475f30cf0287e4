// The life of a bit. Every move has one order: set it in the destination, make
// the pages that hold it there durable, clear the source. A crash between any
// two steps leaves the bit in one map or in both.
#include <atomic>
#include <cassert>

#include "bitmap/dirty_bitmap_impl.h"
#include "common/failpoint.h"

namespace tidemark {

Status DirtyBitmap::Impl::check_usable(uint32_t slot) const {
  if (!file.is_open()) {
    return {ErrorCode::kClosed, "Cannot use the bitmap " + file.path() + ": because it is closed."};
  }
  if (maps_of(slot) == nullptr) {
    return {ErrorCode::kNotFound, "Cannot use slot " + std::to_string(slot) + " of the bitmap " +
                                      file.path() + ": because it has no target. Add one first."};
  }
  return Status::ok();
}

std::vector<BlockMap*> DirtyBitmap::Impl::merge_destinations() noexcept {
  std::vector<BlockMap*> destinations;
  for (const auto& maps : slots) {
    if (maps) destinations.push_back(&maps->pending);
  }
  if (destinations.empty()) destinations.push_back(&live());
  return destinations;
}

Status DirtyBitmap::Impl::move(BlockMap& source, std::span<BlockMap* const> destinations,
                               std::string_view failpoint_name) {
  if (source.is_empty()) return Status::ok();
  for (BlockMap* destination : destinations) {
    const WordRange touched = source.merge_into(*destination);
    if (Status status = sync(*destination, touched); !status.is_ok()) return status;
  }
  failpoint(failpoint_name);
  // A reader on another thread that finds a bit gone here finds it there.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  source.clear_all();
  file.store_heartbeat();
  return Status::ok();
}

// The order of move(), for the first `max_blocks` blocks of the source.
Status DirtyBitmap::Impl::move_first(BlockMap& source, BlockMap& destination, uint64_t max_blocks) {
  std::vector<BlockRun> runs;
  WordRange touched;
  uint64_t from = 0;
  while (max_blocks > 0) {
    const auto run = source.next_run(from, max_blocks);
    if (!run) break;
    const uint64_t last = run->first + run->count - 1;
    destination.mark(run->first, last);
    touched.include(WordRange::of_blocks(run->first, last));
    runs.push_back(*run);
    from = run->first + run->count;
    max_blocks -= run->count;
  }
  if (runs.empty()) return Status::ok();
  if (Status status = sync(destination, touched); !status.is_ok()) return status;
  failpoint("bitmap.take");
  std::atomic_thread_fence(std::memory_order_seq_cst);
  for (const BlockRun& run : runs) source.clear(run.first, run.first + run.count - 1);
  file.store_heartbeat();
  return Status::ok();
}

void DirtyBitmap::flip() noexcept {
  assert(impl().closed().is_empty());
  const uint32_t next = 1 - impl().live_index.load(std::memory_order_relaxed);
  impl().file.store_live_index(next);
  failpoint("bitmap.flip");
  // The gate's opening publishes it to the marking threads; release does so
  // even for a reader that passes no gate.
  impl().live_index.store(next, std::memory_order_release);
}

Status DirtyBitmap::merge_closed() {
  if (!impl().file.is_open()) return impl().check_usable(0);
  const std::vector<BlockMap*> destinations = impl().merge_destinations();
  return impl().move(impl().closed(), destinations, "bitmap.merge");
}

Status DirtyBitmap::take_pending(uint32_t slot, uint64_t max_bytes) {
  if (Status status = impl().check_usable(slot); !status.is_ok()) return status;
  Impl::TargetMaps& maps = *impl().slots[slot];
  if (max_bytes >= impl().disk_size_bytes) {
    return impl().move(maps.pending, {{&maps.in_flight}}, "bitmap.take");
  }
  return impl().move_first(maps.pending, maps.in_flight,
                           std::max<uint64_t>(max_bytes >> impl().granularity_shift, 1));
}

Status DirtyBitmap::give_back(uint32_t slot) {
  if (Status status = impl().check_usable(slot); !status.is_ok()) return status;
  Impl::TargetMaps& maps = *impl().slots[slot];
  return impl().move(maps.in_flight, {{&maps.pending}}, "bitmap.give_back");
}

Status DirtyBitmap::stage(uint32_t slot) {
  if (Status status = impl().check_usable(slot); !status.is_ok()) return status;
  Impl::TargetMaps& maps = *impl().slots[slot];
  return impl().move(maps.in_flight, {{&maps.staged}}, "bitmap.stage");
}

Status DirtyBitmap::unstage(uint32_t slot) {
  if (Status status = impl().check_usable(slot); !status.is_ok()) return status;
  Impl::TargetMaps& maps = *impl().slots[slot];
  return impl().move(maps.staged, {{&maps.pending}}, "bitmap.unstage");
}

Status DirtyBitmap::commit(uint32_t slot) {
  if (Status status = impl().check_usable(slot); !status.is_ok()) return status;
  Impl::TargetMaps& maps = *impl().slots[slot];
  // The replica has it all: these clears need no order and no sync. What a
  // crash leaves set travels once more.
  maps.staged.clear_all();
  failpoint("bitmap.commit");
  maps.in_flight.clear_all();
  impl().file.store_heartbeat();
  return Status::ok();
}

}  // namespace tidemark
