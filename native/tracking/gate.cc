#include "tracking/gate.h"

#include <cassert>

namespace tidemark {

uint64_t Gate::shard_of_this_thread() noexcept {
  static std::atomic<uint64_t> thread_count{0};
  thread_local const uint64_t shard = thread_count.fetch_add(1, std::memory_order_relaxed);
  return shard % kShards;
}

bool Gate::enter(IoRequest& request, uint64_t& shard) noexcept {
  shard = shard_of_this_thread();
  while ((shards_[shard].word.fetch_add(1, std::memory_order_acquire) & kClosed) != 0) {
    leave(shard);
    if (park(request)) return false;
  }
  return true;
}

void Gate::leave(uint64_t shard) noexcept {
  const uint64_t before = shards_[shard].word.fetch_sub(1, std::memory_order_release);
  if (before != (kClosed | 1)) return;
  const MutexLock lock(mutex_);
  drained_.notify_all();
}

// False when the gate was opened in between. close() and open() change all
// shards under the mutex, so that the caller's next attempt meets their result.
bool Gate::park(IoRequest& request) noexcept {
  const MutexLock lock(mutex_);
  if (!is_closed_) return false;
  request.next = nullptr;
  *last_parked_ = &request;
  last_parked_ = &request.next;
  return true;
}

uint64_t Gate::close() noexcept {
  const MutexLock lock(mutex_);
  assert(!is_closed_);
  is_closed_ = true;
  uint64_t inside = 0;
  for (Shard& shard : shards_) inside += shard.word.fetch_or(kClosed, std::memory_order_acq_rel);
  return inside;
}

// A request that entered and backs out may be counted for a moment, and only
// delays the answer; once a shard was seen at zero nobody real enters it.
bool Gate::is_drained() const noexcept {
  for (const Shard& shard : shards_) {
    if ((shard.word.load(std::memory_order_acquire) & ~kClosed) != 0) return false;
  }
  return true;
}

bool Gate::wait_drained(std::chrono::steady_clock::time_point deadline) {
  MutexLock lock(mutex_);
  return lock.wait_until(drained_, deadline, [this] { return is_drained(); });
}

IoRequest* Gate::open() noexcept {
  const MutexLock lock(mutex_);
  IoRequest* const parked = first_parked_;
  first_parked_ = nullptr;
  last_parked_ = &first_parked_;
  is_closed_ = false;
  for (Shard& shard : shards_) shard.word.fetch_and(~kClosed, std::memory_order_release);
  return parked;
}

}  // namespace tidemark
