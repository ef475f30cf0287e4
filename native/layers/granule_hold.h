// GranuleHold: an exclusive claim as a scope, for threads that may wait. Never on
// an I/O thread: the completions there may be what it waits for.
#pragma once

#include <condition_variable>
#include <cstdint>

#include "common/mutex.h"
#include "layers/granule_locks.h"

namespace tidemark {

class GranuleHold final : private GranuleClaim {
 public:
  GranuleHold(GranuleLocks& locks, uint64_t first, uint64_t end) : locks_(locks) {
    first_granule = first;
    end_granule = end;
    exclusive = true;
    if (locks_.lock(*this)) return;
    MutexLock lock(mutex_);
    lock.wait(changed_, [this]() NO_THREAD_SAFETY_ANALYSIS { return granted_; });
  }
  ~GranuleHold() override { locks_.unlock(*this); }
  GranuleHold(const GranuleHold&) = delete;
  GranuleHold& operator=(const GranuleHold&) = delete;

 private:
  void run() noexcept override {
    const MutexLock lock(mutex_);
    granted_ = true;
    changed_.notify_one();  // with the mutex held: the waiter ends this object
  }

  GranuleLocks& locks_;
  Mutex mutex_;
  std::condition_variable changed_;
  bool granted_ GUARDED_BY(mutex_) = false;
};

}  // namespace tidemark
