#include "device/ring_queue.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <utility>

namespace tidemark {

namespace {

constexpr unsigned kRingEntries = 256;
constexpr unsigned kReapBatch = 64;
// One transfer's length is 32 bits in the ring, and MAX_RW_COUNT in the kernel.
constexpr uint64_t kMaxPieceBytes = 1ULL << 30;

// liburing maps and unmaps by bare system calls, which TSan does not see: to it a
// ring where another thread's was before is that ring. The kernel orders the two;
// this says so.
std::atomic<uint32_t> closed_rings{0};

}  // namespace

RingQueue::~RingQueue() {
  if (!is_open_) return;
  closed_rings.fetch_add(1, std::memory_order_release);
  ::io_uring_queue_exit(&ring_);
}

bool RingQueue::open() noexcept {
  // Disabled until enable(): the ring's single issuer is the thread that enables it.
  constexpr unsigned kSingleIssuer =
      IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_R_DISABLED;
  int error = ::io_uring_queue_init(kRingEntries, &ring_, kSingleIssuer);
  if (error == -EINVAL) {
    error = ::io_uring_queue_init(kRingEntries, &ring_, IORING_SETUP_R_DISABLED);
  }
  static_cast<void>(closed_rings.load(std::memory_order_acquire));
  is_open_ = error == 0;
  return is_open_;
}

io_uring_sqe* RingQueue::get_entry() noexcept {
  io_uring_sqe* entry = ::io_uring_get_sqe(&ring_);
  while (entry == nullptr) {
    ::io_uring_submit(&ring_);
    entry = ::io_uring_get_sqe(&ring_);
  }
  return entry;
}

void RingQueue::prepare(IoTask& task) noexcept {
  io_uring_sqe* entry = get_entry();
  const auto length = static_cast<unsigned>(std::min(task.remaining_bytes, kMaxPieceBytes));
  if (task.kind == IoTask::Kind::kRead) {
    ::io_uring_prep_read(entry, task.fd, task.data, length, task.offset_bytes);
  } else {
    ::io_uring_prep_write(entry, task.fd, task.data, length, task.offset_bytes);
  }
  entry->rw_flags = task.rw_flags;
  ::io_uring_sqe_set_data(entry, &task);
  ++in_flight_count_;
}

void RingQueue::prepare_wakeup(int fd, uint64_t& value) noexcept {
  io_uring_sqe* entry = get_entry();
  ::io_uring_prep_read(entry, fd, &value, sizeof value, 0);
  ::io_uring_sqe_set_data(entry, nullptr);
}

// Completions are taken off the ring before they are acted on: what they call may
// take its time, and may submit again.
bool RingQueue::reap() noexcept {
  bool has_woken = false;
  std::array<io_uring_cqe*, kReapBatch> entries;
  std::array<std::pair<IoTask*, int>, kReapBatch> results;
  while (const unsigned count = ::io_uring_peek_batch_cqe(&ring_, entries.data(), kReapBatch)) {
    for (unsigned i = 0; i < count; ++i) {
      results[i] = {static_cast<IoTask*>(::io_uring_cqe_get_data(entries[i])), entries[i]->res};
    }
    ::io_uring_cq_advance(&ring_, count);
    for (unsigned i = 0; i < count; ++i) {
      const auto [task, result] = results[i];
      has_woken = has_woken || task == nullptr;
      if (task != nullptr) finish_step(*task, result);
    }
  }
  return has_woken;
}

void RingQueue::finish_step(IoTask& task, int result) noexcept {
  --in_flight_count_;
  if (result == -EAGAIN) return blocking_->submit(task);  // the file cannot be had without waiting
  int error = 0;
  if (advance_io_task(task, result, error)) return prepare(task);
  task.done(task, error);
}

}  // namespace tidemark
