// NbdExtentQuery: one question for base:allocation, and the thread that waits for
// its answer, for a bounded time: "all data" is true enough where none comes.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <vector>

#include "common/mutex.h"
#include "device/block_device.h"

namespace tidemark {

struct NbdExtentQuery {
  uint64_t offset_bytes = 0;
  uint64_t length_bytes = 0;
  bool wants_one = false;

  // Empty: not known. Called once.
  void answer(std::vector<DeviceExtent> found) {
    {
      const MutexLock lock(mutex);
      extents = std::move(found);
      is_answered = true;
    }
    answered.notify_one();
  }
  std::vector<DeviceExtent> wait(std::chrono::milliseconds limit) {
    MutexLock lock(mutex);
    const auto deadline = std::chrono::steady_clock::now() + limit;
    lock.wait_until(answered, deadline, [this]() NO_THREAD_SAFETY_ANALYSIS { return is_answered; });
    return std::move(extents);
  }

  Mutex mutex;
  std::condition_variable answered;
  std::vector<DeviceExtent> extents GUARDED_BY(mutex);
  bool is_answered GUARDED_BY(mutex) = false;
};

}  // namespace tidemark
