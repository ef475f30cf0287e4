#include "device/loop_ring.h"

#include <sys/eventfd.h>

#include <cassert>

#include "device/ring_queue.h"

namespace tidemark {

namespace {

// A disk that gets a client's whole queue at once answers it at once, and is idle
// while the client takes the answers. In groups its work, ours and the client's
// overlap, for a system call a group (docs/performance.md has the numbers).
constexpr unsigned kGroupEntries = 8;

}  // namespace

std::unique_ptr<LoopRing> LoopRing::create() {
  assert(current_ == nullptr);
  UniqueFd event_fd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  auto queue = std::make_unique<RingQueue>(acquire_io_engine(IoEngineKind::kThreads));
  if (!event_fd.is_open() || !queue->open()) return nullptr;
  queue->enable();
  if (!queue->signal_to(event_fd.get())) return nullptr;
  return std::unique_ptr<LoopRing>(new LoopRing(std::move(queue), std::move(event_fd)));
}

LoopRing::LoopRing(std::unique_ptr<RingQueue> queue, UniqueFd event_fd)
    : event_fd_(std::move(event_fd)), queue_(std::move(queue)) {
  current_ = this;
}

LoopRing::~LoopRing() {
  while (queue_->in_flight_count() > 0) {
    queue_->submit_and_wait();
    queue_->reap();
  }
  current_ = nullptr;
}

void LoopRing::submit(IoTask& task) noexcept {
  queue_->prepare(task);
  if (queue_->prepared_count() >= kGroupEntries) queue_->submit();
}

// What ends at once is finished here, and may submit again.
void LoopRing::flush() noexcept {
  while (queue_->has_prepared()) {
    queue_->submit_and_look();
    queue_->reap();
  }
}

bool LoopRing::has_unflushed() const noexcept { return queue_->has_prepared(); }

void LoopRing::reap() noexcept {
  queue_->submit_and_look();
  queue_->reap();
}

}  // namespace tidemark
