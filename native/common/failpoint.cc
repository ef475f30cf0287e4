#include "common/failpoint.h"

#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <mutex>
#include <string>

namespace tidemark {

namespace failpoint_detail {

std::atomic<bool> armed{false};

namespace {
std::string armed_name;
std::atomic<long> passages_left{0};
std::atomic<FailpointObserver> observer{nullptr};
}  // namespace

void pass(std::string_view name) noexcept {
  if (const FailpointObserver observe = observer.load(std::memory_order_acquire)) observe(name);
  if (name != armed_name) return;
  if (passages_left.fetch_sub(1) == 1) ::kill(::getpid(), SIGKILL);
}

}  // namespace failpoint_detail

namespace {

void arm() {
  const char* setting = std::getenv("TIDEMARK_FAILPOINT");
  if (setting == nullptr) return;
  const std::string text = setting;
  const size_t colon = text.find(':');
  failpoint_detail::armed_name = text.substr(0, colon);
  failpoint_detail::passages_left =
      colon == std::string::npos ? 1 : std::strtol(text.c_str() + colon + 1, nullptr, 10);
  failpoint_detail::armed = true;
}

}  // namespace

void observe_failpoints(FailpointObserver observer) noexcept {
  failpoint_detail::observer.store(observer, std::memory_order_release);
  failpoint_detail::armed = observer != nullptr || !failpoint_detail::armed_name.empty();
}

void arm_failpoints_from_environment() {
  static std::once_flag once;
  std::call_once(once, arm);
}

}  // namespace tidemark
