#include "nbd/completion_mailbox.h"

#include <thread>
#include <utility>

#include "common/completion_hold.h"

namespace tidemark::nbd {

CompletionMailbox::~CompletionMailbox() {
  while (posters_.load(std::memory_order_acquire) != 0) std::this_thread::yield();
}

// The mailbox outlives a request that was not taken yet, so that it may be held.
void CompletionMailbox::post(NbdRequest& request) noexcept {
  CompletionHold* const hold = CompletionHold::current();
  if (hold == nullptr) return post_now(request);
  const auto post = [](void* mailbox, void* held) noexcept {
    static_cast<CompletionMailbox*>(mailbox)->post_now(*static_cast<NbdRequest*>(held));
  };
  hold->add(post, this, &request);
}

void CompletionMailbox::post_now(NbdRequest& request) noexcept {
  posters_.fetch_add(1, std::memory_order_relaxed);
  NbdRequest* head = head_.load(std::memory_order_relaxed);
  do {
    request.next = head;
  } while (!head_.compare_exchange_weak(head, &request));
  wake_up_.ring();
  posters_.fetch_sub(1, std::memory_order_release);
}

NbdRequest* CompletionMailbox::take_all() noexcept {
  NbdRequest* newest_first = head_.exchange(nullptr);
  NbdRequest* oldest_first = nullptr;
  while (newest_first != nullptr) {
    auto* rest = static_cast<NbdRequest*>(newest_first->next);
    newest_first->next = oldest_first;
    oldest_first = std::exchange(newest_first, rest);
  }
  return oldest_first;
}

}  // namespace tidemark::nbd
