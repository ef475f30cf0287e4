#include "device/nbd_client_inbox.h"

#include <sys/eventfd.h>

#include <thread>
#include <utility>

namespace tidemark {

namespace {

// Fails only when the counter is full, and then it is readable anyway.
void write_event(int fd) noexcept {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(fd, &one, sizeof one);
}

}  // namespace

NbdClientInbox::NbdClientInbox()
    : wake_fd_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)),
      stop_fd_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}

NbdClientInbox::~NbdClientInbox() {
  while (poster_count_.load(std::memory_order_acquire) != 0) std::this_thread::yield();
}

void NbdClientInbox::post(IoRequest& request) noexcept {
  poster_count_.fetch_add(1, std::memory_order_relaxed);
  IoRequest* head = head_.load(std::memory_order_relaxed);
  do {
    request.next = head;
  } while (!head_.compare_exchange_weak(head, &request));
  ring();
  poster_count_.fetch_sub(1, std::memory_order_release);
}

void NbdClientInbox::post(std::shared_ptr<NbdExtentQuery> query) {
  {
    const MutexLock lock(mutex_);
    queries_.push_back(std::move(query));
  }
  ring();
}

void NbdClientInbox::give_up() noexcept {
  is_given_up_.store(true);
  write_event(stop_fd_.get());
  ring();
}

void NbdClientInbox::stop() noexcept {
  is_stopped_.store(true);
  write_event(stop_fd_.get());
  ring();
}

void NbdClientInbox::ring() noexcept {
  if (armed_.exchange(false)) write_event(wake_fd_.get());
}

bool NbdClientInbox::is_empty() {
  if (head_.load() != nullptr) return false;
  const MutexLock lock(mutex_);
  return queries_.empty();
}

IoRequest* NbdClientInbox::take_requests() noexcept {
  IoRequest* newest_first = head_.exchange(nullptr);
  IoRequest* oldest_first = nullptr;
  while (newest_first != nullptr) {
    IoRequest* rest = newest_first->next;
    newest_first->next = oldest_first;
    oldest_first = std::exchange(newest_first, rest);
  }
  return oldest_first;
}

std::vector<std::shared_ptr<NbdExtentQuery>> NbdClientInbox::take_queries() {
  std::vector<std::shared_ptr<NbdExtentQuery>> queries;
  const MutexLock lock(mutex_);
  queries.swap(queries_);
  return queries;
}

void NbdClientInbox::clear_wake() noexcept {
  uint64_t count;
  [[maybe_unused]] const ssize_t length = ::read(wake_fd_.get(), &count, sizeof count);
}

}  // namespace tidemark
