// Suspicion, in turn with all else that works on the maps.
#include "tracking/tracked_device_impl.h"

namespace tidemark {

Status TrackedDevice::mark_suspect(uint32_t slot, uint64_t offset_bytes, uint64_t length_bytes,
                                   SuspicionCause cause) {
  const MutexLock lock(impl_->maps_mutex());
  return impl_->bitmap().mark_suspect(slot, offset_bytes, length_bytes, cause);
}

Status TrackedDevice::mark_all_suspect(SuspicionCause cause) {
  const MutexLock lock(impl_->maps_mutex());
  return impl_->bitmap().mark_all_suspect(cause);
}

uint64_t TrackedDevice::suspicion_count(uint32_t slot) {
  const MutexLock lock(impl_->maps_mutex());
  return impl_->bitmap().suspicion_count(slot);
}

bool TrackedDevice::clear_suspect(uint32_t slot, uint64_t offset_bytes, uint64_t length_bytes,
                                  uint64_t suspicion_count) {
  const MutexLock lock(impl_->maps_mutex());
  if (impl_->bitmap().suspicion_count(slot) != suspicion_count) return false;
  impl_->bitmap().clear_suspect(slot, offset_bytes, length_bytes);
  return true;
}

Status TrackedDevice::suspect_to_pending(uint32_t slot, uint64_t offset_bytes,
                                         uint64_t length_bytes) {
  const MutexLock lock(impl_->maps_mutex());
  return impl_->bitmap().suspect_to_pending(slot, offset_bytes, length_bytes);
}

}  // namespace tidemark
