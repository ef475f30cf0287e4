#include "tracking/pass_on.h"

#include <algorithm>
#include <atomic>
#include <system_error>
#include <thread>
#include <vector>

#include "common/completion_hold.h"

namespace tidemark {

namespace {

constexpr size_t kMaxThreads = 4;

size_t thread_count_for(std::span<const ParkedList> lists) {
  const auto is_busy = [](const ParkedList& list) { return list.first != nullptr; };
  const auto busy = static_cast<size_t>(std::count_if(lists.begin(), lists.end(), is_busy));
  const size_t cores = std::max(1U, std::thread::hardware_concurrency());
  return std::min({busy, cores, kMaxThreads});
}

}  // namespace

void pass_on_parked(std::span<const ParkedList> lists) noexcept {
  std::atomic<size_t> next{0};
  const auto work = [&lists, &next]() noexcept {
    [[maybe_unused]] CompletionHold hold;
    for (size_t i = next.fetch_add(1); i < lists.size(); i = next.fetch_add(1)) {
      lists[i].device->submit_parked(lists[i].first);
    }
  };
  std::vector<std::thread> helpers;
  const size_t thread_count = thread_count_for(lists);
  try {
    while (helpers.size() + 1 < thread_count) helpers.emplace_back(work);
  } catch (const std::system_error&) {
    // Without another thread this one does it all.
  }
  work();
  for (std::thread& helper : helpers) helper.join();
}

}  // namespace tidemark
