// Named places at which a test can end the process as a crash would (SIGKILL).
//
// Armed once, before any I/O thread starts, from TIDEMARK_FAILPOINT="name:n":
// the n-th passage of `name` kills the process. Unarmed, a failpoint is one
// relaxed load of a constant false. The names are those of a write's and a
// cycle's life; lib/model/failpoint.ts has the ones of the control plane.
#pragma once

#include <atomic>
#include <string_view>

namespace tidemark {

namespace failpoint_detail {
extern std::atomic<bool> armed;
void pass(std::string_view name) noexcept;
}  // namespace failpoint_detail

void arm_failpoints_from_environment();

inline void failpoint(std::string_view name) noexcept {
  if (failpoint_detail::armed.load(std::memory_order_relaxed)) [[unlikely]] {
    failpoint_detail::pass(name);
  }
}

}  // namespace tidemark
