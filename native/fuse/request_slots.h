// RequestSlots: the requests that may be under way at once, with their buffers,
// all made and locked in memory at the start.
//
// Representation: an array of slots and a free list. Workload: one thread takes,
// the device's threads give back. Cost: O(1); taking waits while none is free,
// which is what bounds the process's memory.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <memory>
#include <vector>

#include "common/mutex.h"
#include "device/io_request.h"

namespace tidemark::fuse {

class RequestSlots {
 public:
  struct Slot {
    IoRequest request;
    std::byte* buffer = nullptr;  // buffer_bytes() of it
    void* reply_to = nullptr;     // the kernel's request; the taker's to set
    RequestSlots* home = nullptr;
  };

  RequestSlots(size_t slot_count, size_t buffer_bytes);

  size_t buffer_bytes() const noexcept { return buffer_bytes_; }
  Slot& take() noexcept;
  void give_back(Slot& slot) noexcept;
  void wait_until_all_are_free();

 private:
  const size_t buffer_bytes_;
  std::unique_ptr<std::byte[]> memory_;
  std::vector<Slot> slots_;  // fixed; contents belong to whoever took the slot

  Mutex mutex_;
  std::condition_variable freed_;
  std::vector<Slot*> free_ GUARDED_BY(mutex_);
};

}  // namespace tidemark::fuse
