// LoopRing: an io_uring of a thread that has an event loop of its own.
//
// While it lives, what that thread submits to a FileDevice whose engine is
// io_uring goes through here instead of the engine's thread: given to the kernel
// in groups, the last at the end of a round of the loop, and finished by the loop
// itself. That saves two hand-offs between threads for each request.
//
//   a round:  wait for fd() and the loop's other descriptors
//             reap()           when fd() is readable
//             ...              requests are submitted
//             flush()          before it waits again
#pragma once

#include <memory>

#include "common/fd.h"

namespace tidemark {

class RingQueue;
struct IoTask;

class LoopRing {
 public:
  // For the calling thread, which alone uses it and destroys it. Null where
  // io_uring cannot be had.
  static std::unique_ptr<LoopRing> create();
  // Waits for what is in flight, and for what its completions submit.
  ~LoopRing();
  LoopRing(const LoopRing&) = delete;
  LoopRing& operator=(const LoopRing&) = delete;

  // The calling thread's; null when it has none.
  static LoopRing* of_this_thread() noexcept { return current_; }

  // Readable when something has ended, and from then on: to be watched for edges.
  // (A ring whose completions wait for their thread does not report itself.)
  int fd() const noexcept { return event_fd_.get(); }
  void submit(IoTask& task) noexcept;
  void flush() noexcept;
  bool has_unflushed() const noexcept;
  void reap() noexcept;

 private:
  LoopRing(std::unique_ptr<RingQueue> queue, UniqueFd event_fd);

  static inline thread_local LoopRing* current_ = nullptr;

  const UniqueFd event_fd_;
  const std::unique_ptr<RingQueue> queue_;
};

}  // namespace tidemark
