// BusyPoll: whether an I/O thread looks for events a little longer before it
// sleeps.
//
// A client that waits for each answer sends its next request some microseconds
// after the reply. To fall asleep in between costs both sides more than that: a
// wake-up is an interrupt to a halted core, and on a virtual machine an exit.
// So the thread looks again for a short window. It does not yield meanwhile: on a
// busy core who yields waits for the time slices of others, where a sleeper that
// wakes goes first; one slow disk's completions were late by milliseconds.
// Representation: how many windows in a row ended with nothing. After a few of
// them polling pauses for many waits, so that connections that are idle or slow,
// or whose client needs this very core, pay next to nothing. One I/O thread's own.
#pragma once

#include <chrono>
#include <cstdint>

namespace tidemark::nbd {

class BusyPoll {
 public:
  using Clock = std::chrono::steady_clock;

  // Zero: never.
  explicit BusyPoll(std::chrono::microseconds window) : window_(window) {}

  // Asked once before each wait.
  bool is_worthwhile() noexcept {
    if (window_.count() == 0) return false;
    if (paused_waits_ == 0) return true;
    --paused_waits_;
    return false;
  }

  Clock::time_point deadline() const noexcept { return Clock::now() + window_; }

  void found() noexcept { misses_ = 0; }

  void found_nothing() noexcept {
    if (++misses_ < kMissesToPause) return;
    misses_ = 0;
    paused_waits_ = kPausedWaits;
  }

 private:
  static constexpr uint32_t kMissesToPause = 4;
  static constexpr uint32_t kPausedWaits = 100;

  const std::chrono::microseconds window_;
  uint32_t misses_ = 0;
  uint32_t paused_waits_ = 0;
};

}  // namespace tidemark::nbd
