// Suspect blocks: nobody knows whether the target has them. A bit leaves the
// suspect map when the block compared equal with the replica, or into pending in
// the order of every move: durable there first.
#include <algorithm>
#include <atomic>
#include <cassert>

#include "bitmap/dirty_bitmap_impl.h"
#include "common/failpoint.h"

namespace tidemark {

Status DirtyBitmap::Impl::note_cause(uint32_t slot, SuspicionCause cause) {
  BitmapHeader header = file.header();
  const auto causes = static_cast<SuspicionCauses>(header.suspicion_causes[slot] |
                                                   static_cast<SuspicionCauses>(cause));
  if (causes == header.suspicion_causes[slot]) return Status::ok();
  header.suspicion_causes[slot] = causes;
  return write_header(header);
}

Status DirtyBitmap::mark_suspect(uint32_t slot, uint64_t offset_bytes, uint64_t length_bytes,
                                 SuspicionCause cause) {
  Impl& state = impl();
  if (Status status = state.check_usable(slot); !status.is_ok()) return status;
  const auto blocks = state.touched_blocks(offset_bytes, length_bytes);
  if (!blocks) return Status::ok();
  Impl::TargetMaps& maps = *state.slots[slot];
  ++maps.suspicion_count;
  const uint64_t last = blocks->first + blocks->count - 1;
  const WordRange touched = maps.suspect.mark_anew(blocks->first, last);
  // The cause after the bits: it may fail, they may not.
  Status status = state.sync(maps.suspect, touched);
  failpoint("bitmap.suspect");
  const Status noted = state.note_cause(slot, cause);
  return status.is_ok() ? noted : status;
}

Status DirtyBitmap::mark_all_suspect(SuspicionCause cause) {
  Status first;
  for (const Target& target : targets()) {
    Status status = mark_suspect(target.slot, 0, disk_size_bytes(), cause);
    if (first.is_ok()) first = std::move(status);
  }
  return first;
}

void DirtyBitmap::clear_suspect(uint32_t slot, uint64_t offset_bytes,
                                uint64_t length_bytes) noexcept {
  Impl::TargetMaps* maps = impl().maps_of(slot);
  assert(maps != nullptr);
  const auto blocks = impl().covered_blocks(offset_bytes, length_bytes);
  if (maps && blocks) maps->suspect.clear(blocks->first, blocks->first + blocks->count - 1);
}

Status DirtyBitmap::suspect_to_pending(uint32_t slot, uint64_t offset_bytes,
                                       uint64_t length_bytes) {
  Impl& state = impl();
  if (Status status = state.check_usable(slot); !status.is_ok()) return status;
  const auto blocks = state.touched_blocks(offset_bytes, length_bytes);
  if (!blocks) return Status::ok();
  Impl::TargetMaps& maps = *state.slots[slot];
  const uint64_t end = blocks->first + blocks->count;
  WordRange touched;
  for (uint64_t from = blocks->first; from < end;) {
    const auto run = maps.suspect.next_run(from, end - from);
    if (!run || run->first >= end) break;
    from = std::min(run->first + run->count, end);
    touched.include(maps.pending.mark_anew(run->first, from - 1));
  }
  if (touched.is_empty()) return Status::ok();
  Status status = state.sync(maps.pending, touched);
  if (!status.is_ok()) return status;
  failpoint("bitmap.suspect_to_pending");
  std::atomic_thread_fence(std::memory_order_seq_cst);
  maps.suspect.clear(blocks->first, end - 1);
  return Status::ok();
}

Status DirtyBitmap::end_suspicion(uint32_t slot) {
  Impl& state = impl();
  if (Status status = state.check_usable(slot); !status.is_ok()) return status;
  BitmapHeader header = state.file.header();
  if (header.suspicion_causes[slot] == 0) return Status::ok();
  if (!state.slots[slot]->suspect.is_empty()) {
    return {ErrorCode::kInUse, "Cannot end the suspicion of slot " + std::to_string(slot) +
                                   ": because blocks of it are suspect. Compare them first."};
  }
  header.suspicion_causes[slot] = 0;
  return state.write_header(header);
}

SuspicionCauses DirtyBitmap::suspicion_causes(uint32_t slot) const noexcept {
  return slot < kMaxTargets ? impl().file.header().suspicion_causes[slot] : SuspicionCauses{0};
}

uint64_t DirtyBitmap::suspicion_count(uint32_t slot) const noexcept {
  const Impl::TargetMaps* maps = impl().maps_of(slot);
  return maps == nullptr ? 0 : maps->suspicion_count;
}

}  // namespace tidemark
