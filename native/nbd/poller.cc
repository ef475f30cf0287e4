#include "nbd/poller.h"

#include <array>

namespace tidemark::nbd {

Poller::Poller() : epoll_fd_(::epoll_create1(EPOLL_CLOEXEC)) {}

bool Poller::add(int fd, uint32_t events, PollHandler& handler) noexcept {
  epoll_event event{};
  event.events = events;
  event.data.ptr = &handler;
  return ::epoll_ctl(epoll_fd_.get(), EPOLL_CTL_ADD, fd, &event) == 0;
}

void Poller::modify(int fd, uint32_t events, PollHandler& handler) noexcept {
  epoll_event event{};
  event.events = events;
  event.data.ptr = &handler;
  ::epoll_ctl(epoll_fd_.get(), EPOLL_CTL_MOD, fd, &event);
}

void Poller::remove(int fd) noexcept { ::epoll_ctl(epoll_fd_.get(), EPOLL_CTL_DEL, fd, nullptr); }

bool Poller::dispatch(int timeout_ms) {
  std::array<epoll_event, 64> events;
  const int count =
      ::epoll_wait(epoll_fd_.get(), events.data(), static_cast<int>(events.size()), timeout_ms);
  for (int i = 0; i < count; ++i) {
    const epoll_event& event = events[static_cast<size_t>(i)];
    static_cast<PollHandler*>(event.data.ptr)->on_events(event.events);
  }
  return count;
}

}  // namespace tidemark::nbd
