#include "tracking/capture_slots.h"

#include <cassert>
#include <utility>

namespace tidemark {

bool CaptureSlots::must_save(uint64_t offset_bytes, uint64_t end_bytes) const noexcept {
  for (uint32_t slot = 0; slot < kMaxTargets; ++slot) {
    const FrozenBlocks* const frozen = at(slot);
    if (frozen != nullptr && frozen->must_save(offset_bytes, end_bytes)) return true;
  }
  return false;
}

bool CaptureSlots::occupy(uint32_t slot) {
  const MutexLock lock(mutex_);
  if ((occupied_ & (1U << slot)) != 0) return false;
  occupied_ |= 1U << slot;
  return true;
}

bool CaptureSlots::is_occupied(uint32_t slot) const {
  const MutexLock lock(mutex_);
  return slot < kMaxTargets && (occupied_ & (1U << slot)) != 0;
}

bool CaptureSlots::has_occupied() const {
  const MutexLock lock(mutex_);
  return occupied_ != 0;
}

std::vector<std::shared_ptr<FrozenBlocks>> CaptureSlots::publish(
    uint32_t slot, std::shared_ptr<FrozenBlocks> frozen) {
  const MutexLock lock(mutex_);
  assert((occupied_ & (1U << slot)) != 0 && owned_[slot] == nullptr);
  frozen_[slot].store(frozen.get(), std::memory_order_release);
  active_.fetch_or(1U << slot, std::memory_order_release);
  owned_[slot] = std::move(frozen);
  retired_slots_ = 0;
  return std::exchange(retired_, {});
}

std::vector<std::shared_ptr<FrozenBlocks>> CaptureSlots::take_retired() {
  const MutexLock lock(mutex_);
  retired_slots_ = 0;
  return std::exchange(retired_, {});
}

bool CaptureSlots::has_retired(uint32_t slot) const {
  const MutexLock lock(mutex_);
  return slot < kMaxTargets && (retired_slots_ & (1U << slot)) != 0;
}

void CaptureSlots::vacate(uint32_t slot) {
  const MutexLock lock(mutex_);
  active_.fetch_and(~(1U << slot), std::memory_order_release);
  frozen_[slot].store(nullptr, std::memory_order_release);
  if (owned_[slot] != nullptr) {
    retired_.push_back(std::exchange(owned_[slot], nullptr));
    retired_slots_ |= 1U << slot;
  }
  occupied_ &= ~(1U << slot);
}

}  // namespace tidemark
