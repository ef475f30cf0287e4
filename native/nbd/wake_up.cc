#include "nbd/wake_up.h"

#include <sys/eventfd.h>

#include <cstdint>

namespace tidemark::nbd {

WakeUp::WakeUp() : event_fd_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}

void WakeUp::ring() noexcept {
  if (!armed_.exchange(false)) return;
  const uint64_t one = 1;
  // Fails only when the counter is full, and then the sleeper wakes anyway.
  [[maybe_unused]] const ssize_t written = ::write(event_fd_.get(), &one, sizeof one);
}

void WakeUp::clear() noexcept {
  uint64_t count;
  [[maybe_unused]] const ssize_t length = ::read(event_fd_.get(), &count, sizeof count);
}

}  // namespace tidemark::nbd
