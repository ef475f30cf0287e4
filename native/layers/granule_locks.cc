#include "layers/granule_locks.h"

namespace tidemark {

void ClaimList::append(GranuleClaim& claim) noexcept {
  claim.previous_ = tail_;
  claim.next_ = nullptr;
  (tail_ == nullptr ? head_ : tail_->next_) = &claim;
  tail_ = &claim;
}

void ClaimList::remove(GranuleClaim& claim) noexcept {
  (claim.previous_ == nullptr ? head_ : claim.previous_->next_) = claim.next_;
  (claim.next_ == nullptr ? tail_ : claim.next_->previous_) = claim.previous_;
}

bool ClaimList::conflicts_before(const GranuleClaim* stop,
                                 const GranuleClaim& claim) const noexcept {
  for (const GranuleClaim* other = head_; other != stop; other = other->next_) {
    if (other->conflicts_with(claim)) return true;
  }
  return false;
}

bool GranuleLocks::lock(GranuleClaim& claim) {
  const MutexLock lock(mutex_);
  const bool free =
      !held_.conflicts_before(nullptr, claim) && !waiting_.conflicts_before(nullptr, claim);
  (free ? held_ : waiting_).append(claim);
  return free;
}

// The granted claims, linked, the first that came first.
GranuleClaim* GranuleLocks::grant_waiting() {
  GranuleClaim* first = nullptr;
  GranuleClaim** last = &first;
  for (GranuleClaim* waiter = waiting_.head(); waiter != nullptr;) {
    GranuleClaim* const next = ClaimList::after(*waiter);
    if (!held_.conflicts_before(nullptr, *waiter) && !waiting_.conflicts_before(waiter, *waiter)) {
      waiting_.remove(*waiter);
      held_.append(*waiter);
      waiter->next_granted_ = nullptr;
      *last = waiter;
      last = &waiter->next_granted_;
    }
    waiter = next;
  }
  return first;
}

void GranuleLocks::unlock(GranuleClaim& claim) {
  GranuleClaim* granted = nullptr;
  {
    const MutexLock lock(mutex_);
    held_.remove(claim);
    granted = grant_waiting();
  }
  while (granted != nullptr) {
    GranuleClaim* const next = granted->next_granted_;
    run_flat(*granted);
    granted = next;
  }
}

}  // namespace tidemark
