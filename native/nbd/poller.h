// Poller: one epoll set, level-triggered; each descriptor has its handler.
#pragma once

#include <sys/epoll.h>

#include <cstdint>

#include "common/fd.h"

namespace tidemark::nbd {

class PollHandler {
 public:
  virtual ~PollHandler() = default;
  virtual void on_events(uint32_t events) = 0;
};

class Poller {
 public:
  Poller();

  bool is_open() const noexcept { return epoll_fd_.is_open(); }
  bool add(int fd, uint32_t events, PollHandler& handler) noexcept;
  void modify(int fd, uint32_t events, PollHandler& handler) noexcept;
  void remove(int fd) noexcept;

  // Waits, and calls the handlers; false when there was nothing. A handler stays
  // valid until this returns.
  bool dispatch(int timeout_ms);

 private:
  UniqueFd epoll_fd_;
};

}  // namespace tidemark::nbd
