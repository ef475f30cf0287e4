// WakeUp: ends an epoll_wait() from another thread, with at most one system
// call for any number of rings, and none while the sleeper is awake.
//
// Order: a ringer publishes its work, then exchanges `armed_`; the sleeper sets
// `armed_`, then looks for work, then sleeps. All sequentially consistent, so
// that one of the two sees the other.
#pragma once

#include <atomic>

#include "common/fd.h"

namespace tidemark::nbd {

class WakeUp {
 public:
  WakeUp();

  int fd() const noexcept { return event_fd_.get(); }

  void ring() noexcept;  // any thread

  // The sleeper's thread.
  void arm() noexcept { armed_.store(true); }
  void disarm() noexcept { armed_.store(false); }
  void clear() noexcept;  // after the descriptor became readable

 private:
  UniqueFd event_fd_;
  std::atomic<bool> armed_{false};
};

}  // namespace tidemark::nbd
