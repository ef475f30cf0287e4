// ParkedWrite: a write-class request, inside the gate and marked, that waits
// until the captures have saved what it is about to overwrite.
//
// It walks the open captures one after the other and starts saving reads for a
// window of blocks at a time, so that a trim of a whole disk cannot ask for a
// store's worth of memory at once; the last completion of a window starts the
// next one, and after the last the request goes to the backing. Allocated only
// when there is something to wait for.
#pragma once

#include <atomic>
#include <cstdint>

#include "device/io_request.h"
#include "tracking/tracked_device.h"

namespace tidemark {

class ParkedWrite {
 public:
  // Takes the request over; device.pass_on() follows, now or on another thread.
  static void start(IoRequest& request, TrackedDevice::Impl& device);

  // One more saving read to wait for; saved() is called when it has ended,
  // whether or not it succeeded.
  void wait_for_one() noexcept { waits_.fetch_add(1, std::memory_order_relaxed); }
  void saved() noexcept;

 private:
  ParkedWrite(IoRequest& request, TrackedDevice::Impl& device);

  void run() noexcept;
  bool save_next_window() noexcept;

  IoRequest& request_;
  TrackedDevice::Impl& device_;
  uint32_t slot_ = 0;      // of the capture that comes next
  uint64_t cursor_bytes_;  // within the request, for that capture
  std::atomic<uint32_t> waits_{0};
};

}  // namespace tidemark
