// LoopContext: what the connections of one I/O thread share. All of it belongs
// to that thread, except the mailbox's post(), the wake-up's ring() and reading
// the counters.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "device/block_device.h"
#include "nbd/chunk.h"
#include "nbd/completion_mailbox.h"
#include "nbd/extent_worker.h"
#include "nbd/poller.h"
#include "nbd/request.h"
#include "nbd/wake_up.h"

namespace tidemark::nbd {

class Connection;

// Written by one thread, read by any: an increment is a load and a store.
class Counter {
 public:
  void increment() noexcept {
    value_.store(value_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
  uint64_t value() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

struct LoopContext {
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::milliseconds kDeliveryPause{2};

  ChunkPool chunks;
  RequestPool requests;
  WakeUp wake_up;
  CompletionMailbox mailbox{wake_up};
  ExtentWorker extent_worker{mailbox};
  Poller poller;
  std::vector<DeviceExtent> extents;  // scratch of one query; kept for its memory
  std::multimap<Clock::time_point, std::function<void()>> timers;
  std::vector<Connection*> dirty;       // have output or room that came outside their events
  std::vector<Connection*> delivering;  // wait for the peer's kernel to have their last bytes
  std::vector<Connection*> closed;      // to be destroyed at the end of the round
  Counter requests_total;
  Counter errors_total;
};

}  // namespace tidemark::nbd
