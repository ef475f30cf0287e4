#include "fuse/request_slots.h"

#include "common/io_flusher.h"

namespace tidemark::fuse {

RequestSlots::RequestSlots(size_t slot_count, size_t buffer_bytes)
    : buffer_bytes_(buffer_bytes),
      memory_(new std::byte[slot_count * buffer_bytes]),
      slots_(slot_count) {
  lock_buffer(memory_.get(), slot_count * buffer_bytes);
  free_.reserve(slot_count);
  for (size_t i = 0; i < slot_count; ++i) {
    slots_[i].buffer = memory_.get() + i * buffer_bytes;
    slots_[i].home = this;
    free_.push_back(&slots_[i]);
  }
}

RequestSlots::Slot& RequestSlots::take() noexcept {
  MutexLock lock(mutex_);
  lock.wait(freed_, [this]() NO_THREAD_SAFETY_ANALYSIS { return !free_.empty(); });
  Slot& slot = *free_.back();
  free_.pop_back();
  return slot;
}

// Told under the lock: whoever waits for the last slot may destroy this.
void RequestSlots::give_back(Slot& slot) noexcept {
  const MutexLock lock(mutex_);
  free_.push_back(&slot);
  freed_.notify_all();
}

void RequestSlots::wait_until_all_are_free() {
  MutexLock lock(mutex_);
  lock.wait(freed_, [this]() NO_THREAD_SAFETY_ANALYSIS { return free_.size() == slots_.size(); });
}

}  // namespace tidemark::fuse
