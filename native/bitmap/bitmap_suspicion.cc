// Suspect blocks: nobody knows whether the target has them. A bit leaves the
// suspect map when the block compared equal with the replica, or into pending in
// the order of every move: durable there first.
#include <algorithm>
#include <atomic>
#include <cassert>
#include <vector>

#include "bitmap/dirty_bitmap_impl.h"
#include "common/failpoint.h"

namespace tidemark {

namespace {

constexpr size_t kMoveRanges = 4096;  // of one sync

}  // namespace

Status DirtyBitmap::Impl::note_causes(uint32_t slot, SuspicionCauses more) {
  BitmapHeader header = file.header();
  const auto causes = static_cast<SuspicionCauses>(header.suspicion_causes[slot] | more);
  if (causes == header.suspicion_causes[slot]) return Status::ok();
  header.suspicion_causes[slot] = causes;
  return write_header(header);
}

Status DirtyBitmap::Impl::make_suspect(uint32_t slot, uint64_t offset_bytes,
                                       uint64_t length_bytes) {
  const auto blocks = touched_blocks(offset_bytes, length_bytes);
  if (!blocks) return Status::ok();
  TargetMaps& maps = *slots[slot];
  ++maps.suspicion_count;
  const uint64_t last = blocks->first + blocks->count - 1;
  maps.suspect.mark(blocks->first, last);
  return sync(maps.suspect, WordRange::of_blocks(blocks->first, last));
}

Status DirtyBitmap::mark_suspect(uint32_t slot, uint64_t offset_bytes, uint64_t length_bytes,
                                 SuspicionCauses causes) {
  Impl& state = impl();
  if (Status status = state.check_usable(slot); !status.is_ok()) return status;
  if (!state.touched_blocks(offset_bytes, length_bytes)) return Status::ok();
  // The cause after the bits: it may fail, they may not.
  Status status = state.make_suspect(slot, offset_bytes, length_bytes);
  failpoint("bitmap.suspect");
  const Status noted = state.note_causes(slot, causes);
  return status.is_ok() ? noted : status;
}

Status DirtyBitmap::mark_all_suspect(SuspicionCauses causes) {
  Status first;
  for (const Target& target : targets()) {
    Status status = mark_suspect(target.slot, 0, disk_size_bytes(), causes);
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

Status DirtyBitmap::suspect_to_pending(uint32_t slot, std::span<const ByteExtent> ranges) {
  Impl& state = impl();
  if (Status status = state.check_usable(slot); !status.is_ok()) return status;
  Impl::TargetMaps& maps = *state.slots[slot];
  WordRange touched;
  for (const ByteExtent& range : ranges) {
    const auto blocks = state.touched_blocks(range.offset_bytes, range.length_bytes);
    const uint64_t end = blocks ? blocks->first + blocks->count : 0;
    for (uint64_t from = blocks ? blocks->first : end; from < end;) {
      const auto run = maps.suspect.next_run(from, end - from);
      if (!run || run->first >= end) break;
      from = std::min(run->first + run->count, end);
      maps.pending.mark(run->first, from - 1);
      touched.include(WordRange::of_blocks(run->first, from - 1));
    }
  }
  if (touched.is_empty()) return Status::ok();
  Status status = state.sync(maps.pending, touched);
  if (!status.is_ok()) return status;
  failpoint("bitmap.suspect_to_pending");
  std::atomic_thread_fence(std::memory_order_seq_cst);
  for (const ByteExtent& range : ranges) {
    const auto blocks = state.touched_blocks(range.offset_bytes, range.length_bytes);
    if (blocks) maps.suspect.clear(blocks->first, blocks->first + blocks->count - 1);
  }
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

const BackingFingerprint& DirtyBitmap::fingerprint() const noexcept {
  return impl().file.header().fingerprint;
}

Status DirtyBitmap::settle_fingerprint(SuspicionCauses causes, const BackingFingerprint& now) {
  if (causes != 0) {
    if (Status status = mark_all_suspect(causes); !status.is_ok()) return status;
  }
  failpoint("bitmap.fingerprint");
  return keep_fingerprint(now);
}

Status DirtyBitmap::keep_fingerprint(const BackingFingerprint& closed) {
  BitmapHeader header = impl().file.header();
  if (header.fingerprint == closed) return Status::ok();
  header.fingerprint = closed;
  return impl().file.write_header(header);
}

Status DirtyBitmap::suspect_staged_to_pending(uint32_t slot) {
  std::vector<ByteExtent> staged;
  for (uint64_t from = 0; from < disk_size_bytes();) {
    staged.clear();
    while (staged.size() < kMoveRanges) {
      const auto run = next_extent(MapId::staged(slot), from, UINT64_MAX);
      from = run ? run->offset_bytes + run->length_bytes : disk_size_bytes();
      if (!run) break;
      staged.push_back(*run);
    }
    if (Status status = suspect_to_pending(slot, staged); !status.is_ok()) return status;
  }
  return Status::ok();
}

uint64_t DirtyBitmap::suspicion_count(uint32_t slot) const noexcept {
  const Impl::TargetMaps* maps = impl().maps_of(slot);
  return maps == nullptr ? 0 : maps->suspicion_count;
}

}  // namespace tidemark
