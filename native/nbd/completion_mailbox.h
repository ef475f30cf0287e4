// CompletionMailbox: requests that other threads completed, for their I/O thread.
//
// Representation: a stack linked through IoRequest::next, pushed by any thread,
// taken as a whole by the owner. `posters_` counts threads inside post(): the
// mailbox may be destroyed only when nobody can still touch it.
#pragma once

#include <atomic>
#include <cstdint>

#include "nbd/request.h"
#include "nbd/wake_up.h"

namespace tidemark::nbd {

class CompletionMailbox {
 public:
  explicit CompletionMailbox(WakeUp& wake_up) : wake_up_(wake_up) {}
  ~CompletionMailbox();  // waits for posters that are on their way out

  void post(NbdRequest& request) noexcept;

  // The owner's thread.
  void adopt_thread() noexcept { current_ = this; }
  bool is_owner_thread() const noexcept { return current_ == this; }
  bool is_empty() const noexcept { return head_.load() == nullptr; }
  NbdRequest* take_all() noexcept;  // linked by next, oldest first

 private:
  void post_now(NbdRequest& request) noexcept;

  static inline thread_local const CompletionMailbox* current_ = nullptr;

  WakeUp& wake_up_;
  std::atomic<NbdRequest*> head_{nullptr};
  std::atomic<uint32_t> posters_{0};
};

}  // namespace tidemark::nbd
