// Named places at which a test can end the process as a crash would (SIGKILL).
//
// Armed once, before any I/O thread starts, from TIDEMARK_FAILPOINT="name:n":
// the n-th passage of `name` kills the process. Unarmed, a failpoint is one
// relaxed load of a constant false. The names are those of a write's and a
// cycle's life; lib/model/failpoint.ts has the ones of the control plane. A test
// that simulates crashes looks on instead: observe_failpoints().
#pragma once

#include <atomic>
#include <string_view>

namespace tidemark {

namespace failpoint_detail {
extern std::atomic<bool> armed;
void pass(std::string_view name) noexcept;
}  // namespace failpoint_detail

void arm_failpoints_from_environment();

// Called at each passage, on the passing thread, until replaced; null ends it.
using FailpointObserver = void (*)(std::string_view name) noexcept;
void observe_failpoints(FailpointObserver observer) noexcept;

inline void failpoint(std::string_view name) noexcept {
  if (failpoint_detail::armed.load(std::memory_order_relaxed)) [[unlikely]] {
    failpoint_detail::pass(name);
  }
}

}  // namespace tidemark
