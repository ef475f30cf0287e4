#include "tracking/gate.h"

#include <cassert>
#include <thread>

namespace tidemark {

namespace {

constexpr std::chrono::milliseconds kPollInterval{1};

}  // namespace

uint64_t Gate::shard_of_this_thread() noexcept {
  static std::atomic<uint64_t> thread_count{0};
  thread_local const uint64_t shard = thread_count.fetch_add(1, std::memory_order_relaxed);
  return shard % kShards;
}

bool Gate::enter(IoRequest& request, uint64_t& ticket) noexcept {
  const uint64_t index = shard_of_this_thread();
  Shard& shard = shards_[index];
  for (;;) {
    const uint64_t epoch = shard.epoch.load(std::memory_order_relaxed);
    ticket = index * 2 + epoch;
    const uint64_t before = shard.word.fetch_add(unit_of(epoch), std::memory_order_acquire);
    if ((before & kClosed) == 0) return true;
    leave(ticket);
    if (park(request)) return false;
  }
}

void Gate::leave(uint64_t ticket) noexcept {
  const uint64_t unit = unit_of(ticket % 2);
  const uint64_t before = shards_[ticket / 2].word.fetch_sub(unit, std::memory_order_release);
  if (before != (kClosed | unit)) return;
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

uint64_t Gate::inside_count() const noexcept {
  uint64_t count = 0;
  for (const Shard& shard : shards_) count += inside(shard.word.load());
  return count;
}

uint64_t Gate::close() noexcept {
  const MutexLock lock(mutex_);
  assert(!is_closed_);
  is_closed_ = true;
  uint64_t count = 0;
  for (Shard& shard : shards_) {
    count += inside(shard.word.fetch_or(kClosed, std::memory_order_acq_rel));
  }
  return count;
}

// A request that entered and backs out may be counted for a moment, and only
// delays the answer; once a shard was seen at zero nobody real enters it.
bool Gate::is_drained() const noexcept {
  for (const Shard& shard : shards_) {
    if (inside(shard.word.load(std::memory_order_acquire)) != 0) return false;
  }
  return true;
}

bool Gate::wait_drained(std::chrono::steady_clock::time_point deadline) {
  MutexLock lock(mutex_);
  return lock.wait_until(drained_, deadline, [this] { return is_drained(); });
}

// A read-modify-write, so that who enters after it sees what came before it.
bool Gate::wait_for_epoch(uint64_t epoch, const std::function<bool()>& is_given_up) {
  const uint64_t mask = kEpochMask << (epoch * kEpochBits);
  for (Shard& shard : shards_) {
    while ((shard.word.fetch_add(0, std::memory_order_acq_rel) & mask) != 0) {
      if (is_given_up()) return false;
      std::this_thread::sleep_for(kPollInterval);
    }
  }
  return true;
}

// Late-comers of the idle epoch first; it then takes the new ones.
bool Gate::wait_for_those_inside(const std::function<bool()>& is_given_up) {
  const uint64_t idle = 1 - epoch_;
  if (!wait_for_epoch(idle, is_given_up)) return false;
  for (Shard& shard : shards_) shard.epoch.store(idle, std::memory_order_relaxed);
  const uint64_t old = epoch_;
  epoch_ = idle;
  return wait_for_epoch(old, is_given_up);
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
