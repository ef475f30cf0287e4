// Gate: lets write-class requests through to the backing, and stops them for
// the instant of a checkpoint.
//
// Representation: one word for each shard, a cache line apart; a thread keeps to
// its shard. It counts the requests inside, those of two epochs apart, and its top
// bit says "closed", so that entering is one atomic add whose result also tells
// whether the gate was open, and closing learns exactly how many were inside. A request that finds
// the gate closed is parked on a list (IoRequest::next) and passed on by the
// opener in the order of arrival: an I/O thread never blocks here, because the
// completions it reaps may be what the drain waits for.
//
// Inside is [mark .. completion of the backing write]. After close() and a
// successful wait_drained() each write is either wholly before the cut (complete
// at the backing) or wholly after it (not yet marked).
//
// Ordering: enter() acquires, leave() releases, on the same word, so what was
// done inside is visible to the closer, and what the closer did (flip, captures)
// to everyone who enters later.
//
// Epochs let one thread wait, without closing anything, until all who were inside
// have left: new requests are counted in the other epoch, so that the old one runs
// dry under any load. Who read the old epoch's number and is counted late has entered
// after the waiter looked at its shard, and sees all that the waiter did before.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>

#include "common/mutex.h"
#include "device/io_request.h"

namespace tidemark {

class Gate {
 public:
  Gate() = default;
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;

  // True: inside, `ticket` is for leave(). False: parked; the request comes back
  // in the list that open() returns.
  bool enter(IoRequest& request, uint64_t& ticket) noexcept;
  // Before the request's own completion: its owner may destroy the gate then.
  void leave(uint64_t ticket) noexcept;

  // For the one thread that takes a checkpoint.
  uint64_t close() noexcept;  // how many are inside
  bool wait_drained(std::chrono::steady_clock::time_point deadline);
  IoRequest* open() noexcept;  // what was parked, in order of arrival

  // Those inside now; who enters or leaves meanwhile may be counted or not. Any thread.
  uint64_t inside_count() const noexcept;

  // True when all who were inside at the call have left, whoever entered meanwhile;
  // false when is_given_up() said so. Polls; for one thread.
  bool wait_for_those_inside(const std::function<bool()>& is_given_up);

 private:
  static constexpr uint64_t kClosed = 1ULL << 63;
  static constexpr uint64_t kShards = 16;
  static constexpr uint64_t kEpochBits = 31;
  static constexpr uint64_t kEpochMask = (1ULL << kEpochBits) - 1;

  struct alignas(64) Shard {
    std::atomic<uint64_t> word{0};   // kClosed | count of epoch 1 | count of epoch 0
    std::atomic<uint64_t> epoch{0};  // 0 or 1: where who enters now is counted
  };

  static uint64_t unit_of(uint64_t epoch) noexcept { return 1ULL << (epoch * kEpochBits); }
  static uint64_t inside(uint64_t word) noexcept {
    return (word & kEpochMask) + (word >> kEpochBits & kEpochMask);
  }

  static uint64_t shard_of_this_thread() noexcept;
  bool park(IoRequest& request) noexcept;
  bool is_drained() const noexcept;
  bool wait_for_epoch(uint64_t epoch, const std::function<bool()>& is_given_up);

  std::array<Shard, kShards> shards_;
  uint64_t epoch_ = 0;  // of wait_for_those_inside()'s thread

  Mutex mutex_;
  std::condition_variable drained_;
  bool is_closed_ GUARDED_BY(mutex_) = false;
  IoRequest* first_parked_ GUARDED_BY(mutex_) = nullptr;
  IoRequest** last_parked_ GUARDED_BY(mutex_) = &first_parked_;
};

}  // namespace tidemark
