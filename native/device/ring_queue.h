// RingQueue: reads and writes on one io_uring, for the one thread that owns it.
//
// Tasks are prepared one by one and given to the kernel together. A read or write
// that cannot be had without waiting goes on in the kernel; one that the file
// refuses to do that way goes to `blocking`.
#pragma once

#include <liburing.h>

#include <cstdint>

#include "device/io_engine.h"

namespace tidemark {

class RingQueue {
 public:
  explicit RingQueue(std::shared_ptr<IoEngine> blocking) : blocking_(std::move(blocking)) {}
  ~RingQueue();
  RingQueue(const RingQueue&) = delete;
  RingQueue& operator=(const RingQueue&) = delete;

  // False where io_uring cannot be had. Any thread; from enable() on, the caller's.
  bool open() noexcept;
  void enable() noexcept { ::io_uring_enable_rings(&ring_); }

  // The kernel writes to the eventfd whenever something has ended.
  bool signal_to(int event_fd) noexcept {
    return ::io_uring_register_eventfd(&ring_, event_fd) == 0;
  }

  void prepare(IoTask& task) noexcept;
  // A read of the descriptor whose completion reap() reports by its answer.
  void prepare_wakeup(int fd, uint64_t& value) noexcept;
  unsigned prepared_count() noexcept { return ::io_uring_sq_ready(&ring_); }
  bool has_prepared() noexcept { return prepared_count() > 0; }
  uint32_t in_flight_count() const noexcept { return in_flight_count_; }

  void submit() noexcept { ::io_uring_submit(&ring_); }
  // And gives the kernel the opportunity to post what has ended, without waiting.
  void submit_and_look() noexcept { ::io_uring_submit_and_get_events(&ring_); }
  void submit_and_wait() noexcept { ::io_uring_submit_and_wait(&ring_, 1); }

  // Finishes what has ended, until there is no more; what that calls may prepare
  // again. True when the wake-up was among it.
  bool reap() noexcept;

 private:
  io_uring_sqe* get_entry() noexcept;
  void finish_step(IoTask& task, int result) noexcept;

  const std::shared_ptr<IoEngine> blocking_;
  io_uring ring_{};
  bool is_open_ = false;
  uint32_t in_flight_count_ = 0;  // tasks, prepared ones too
};

}  // namespace tidemark
