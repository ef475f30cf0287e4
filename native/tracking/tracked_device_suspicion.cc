// Suspicion, in turn with all else that works on the maps.
#include "tracking/tracked_device_impl.h"

namespace tidemark {

Status TrackedDevice::mark_suspect(uint32_t slot, uint64_t offset_bytes, uint64_t length_bytes,
                                   SuspicionCauses causes) {
  const MutexLock lock(impl_->maps_mutex());
  return impl_->bitmap().mark_suspect(slot, offset_bytes, length_bytes, causes);
}

Status TrackedDevice::mark_all_suspect(SuspicionCauses causes) {
  const MutexLock lock(impl_->maps_mutex());
  return impl_->bitmap().mark_all_suspect(causes);
}

Result<uint64_t> TrackedDevice::advance_sequence(uint64_t above) {
  const MutexLock lock(impl_->maps_mutex());
  return impl_->bitmap().advance_sequence(above);
}

Result<uint64_t> TrackedDevice::begin_comparison(uint32_t slot) {
  const MutexLock lock(impl_->maps_mutex());
  Status status = impl_->bitmap().suspect_staged_to_pending(slot);
  if (!status.is_ok()) return status;
  return impl_->bitmap().suspicion_count(slot);
}

Result<bool> TrackedDevice::settle_comparison(uint32_t slot, uint64_t suspicion_count,
                                              std::span<const ByteExtent> equal,
                                              std::span<const ByteExtent> different) {
  const MutexLock lock(impl_->maps_mutex());
  DirtyBitmap& bitmap = impl_->bitmap();
  if (bitmap.suspicion_count(slot) != suspicion_count) return false;
  if (Status status = bitmap.suspect_to_pending(slot, different); !status.is_ok()) return status;
  for (const ByteExtent& extent : equal) {
    bitmap.clear_suspect(slot, extent.offset_bytes, extent.length_bytes);
  }
  if (bitmap.dirty_block_count(MapId::suspect(slot)) == 0) {
    if (Status status = bitmap.end_suspicion(slot); !status.is_ok()) return status;
  }
  return true;
}

}  // namespace tidemark
