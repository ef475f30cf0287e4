#include "device/engine_uring.h"

#include <liburing.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>
#include <thread>

#include "common/fd.h"
#include "common/io_flusher.h"
#include "common/mutex.h"

namespace tidemark {

namespace {

constexpr unsigned kRingEntries = 256;
constexpr unsigned kReapBatch = 64;
// One transfer's length is 32 bits in the ring, and MAX_RW_COUNT in the kernel.
constexpr uint64_t kMaxPieceBytes = 1ULL << 30;

// What submitters and the ring's thread share; each holds a reference, so that
// the last device may go while one of them is still returning.
class Ring {
 public:
  explicit Ring(std::shared_ptr<IoEngine> blocking) : blocking_(std::move(blocking)) {}
  ~Ring() {
    if (is_open_) ::io_uring_queue_exit(&ring_);
  }
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  bool open() noexcept;
  void submit(IoTask& task) noexcept;
  void stop() noexcept;
  void run() noexcept;

 private:
  void wake() noexcept;
  bool take_submitted(IoTaskQueue& taken) noexcept;
  void arm_wakeup() noexcept;
  void prepare(IoTask& task) noexcept;
  io_uring_sqe* get_entry() noexcept;
  void reap() noexcept;
  void finish_step(IoTask& task, int result) noexcept;

  const std::shared_ptr<IoEngine> blocking_;
  UniqueFd wakeup_;

  // Of the thread in run(), after open().
  io_uring ring_{};
  bool is_open_ = false;
  uint64_t wakeup_count_ = 0;

  Mutex mutex_;
  IoTaskQueue submitted_ GUARDED_BY(mutex_);
  bool is_waiting_ GUARDED_BY(mutex_) = false;  // the thread needs a write to wakeup_
  bool stopping_ GUARDED_BY(mutex_) = false;
};

bool Ring::open() noexcept {
  wakeup_.reset(::eventfd(0, EFD_CLOEXEC));
  if (!wakeup_.is_open()) return false;
  // Disabled until run(): the ring's single issuer is the thread that enables it.
  constexpr unsigned kSingleIssuer =
      IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_R_DISABLED;
  int error = ::io_uring_queue_init(kRingEntries, &ring_, kSingleIssuer);
  if (error == -EINVAL) {
    error = ::io_uring_queue_init(kRingEntries, &ring_, IORING_SETUP_R_DISABLED);
  }
  is_open_ = error == 0;
  return is_open_;
}

void Ring::submit(IoTask& task) noexcept {
  bool must_wake = false;
  {
    const MutexLock lock(mutex_);
    submitted_.push(task);
    must_wake = is_waiting_;
    is_waiting_ = false;
  }
  if (must_wake) wake();
}

void Ring::stop() noexcept {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  wake();
}

void Ring::wake() noexcept { ::eventfd_write(wakeup_.get(), 1); }

// False when the engine is to end. Tasks that come after this call wake the ring.
bool Ring::take_submitted(IoTaskQueue& taken) noexcept {
  const MutexLock lock(mutex_);
  taken = submitted_;
  submitted_ = IoTaskQueue();
  is_waiting_ = true;
  return !stopping_ || !taken.is_empty();
}

void Ring::run() noexcept {
  enter_io_thread("tidemark-uring");
  ::io_uring_enable_rings(&ring_);
  arm_wakeup();
  for (IoTaskQueue taken; take_submitted(taken);) {
    follow_io_flushers();
    while (IoTask* task = taken.pop()) prepare(*task);
    ::io_uring_submit_and_wait(&ring_, 1);
    {
      const MutexLock lock(mutex_);
      is_waiting_ = false;
    }
    reap();
  }
}

void Ring::arm_wakeup() noexcept {
  io_uring_sqe* entry = get_entry();
  ::io_uring_prep_read(entry, wakeup_.get(), &wakeup_count_, sizeof wakeup_count_, 0);
  ::io_uring_sqe_set_data(entry, nullptr);
}

io_uring_sqe* Ring::get_entry() noexcept {
  io_uring_sqe* entry = ::io_uring_get_sqe(&ring_);
  while (entry == nullptr) {
    ::io_uring_submit(&ring_);
    entry = ::io_uring_get_sqe(&ring_);
  }
  return entry;
}

void Ring::prepare(IoTask& task) noexcept {
  io_uring_sqe* entry = get_entry();
  const auto length = static_cast<unsigned>(std::min(task.remaining_bytes, kMaxPieceBytes));
  if (task.kind == IoTask::Kind::kRead) {
    ::io_uring_prep_read(entry, task.fd, task.data, length, task.offset_bytes);
  } else {
    ::io_uring_prep_write(entry, task.fd, task.data, length, task.offset_bytes);
  }
  entry->rw_flags = task.rw_flags;
  ::io_uring_sqe_set_data(entry, &task);
}

// Completions are taken off the ring before they are acted on: what they call may
// take its time, and may submit again.
void Ring::reap() noexcept {
  std::array<io_uring_cqe*, kReapBatch> entries;
  std::array<std::pair<IoTask*, int>, kReapBatch> results;
  while (const unsigned count = ::io_uring_peek_batch_cqe(&ring_, entries.data(), kReapBatch)) {
    for (unsigned i = 0; i < count; ++i) {
      results[i] = {static_cast<IoTask*>(::io_uring_cqe_get_data(entries[i])), entries[i]->res};
    }
    ::io_uring_cq_advance(&ring_, count);
    for (unsigned i = 0; i < count; ++i) {
      if (results[i].first == nullptr) {
        arm_wakeup();
      } else {
        finish_step(*results[i].first, results[i].second);
      }
    }
  }
}

void Ring::finish_step(IoTask& task, int result) noexcept {
  if (result == -EAGAIN) return blocking_->submit(task);  // the file cannot be had without waiting
  int error = 0;
  if (advance_io_task(task, result, error)) return prepare(task);
  task.done(task, error);
}

class UringEngine final : public IoEngine {
 public:
  UringEngine(std::shared_ptr<IoEngine> blocking, std::shared_ptr<Ring> ring)
      : blocking_(std::move(blocking)),
        ring_(std::move(ring)),
        thread_([ring = ring_] { ring->run(); }) {}

  ~UringEngine() override {
    ring_->stop();
    // The last device may be destroyed by a completion, on the ring's own thread.
    if (thread_.get_id() == std::this_thread::get_id()) {
      thread_.detach();
    } else {
      thread_.join();
    }
  }

  const char* name() const noexcept override { return "io_uring"; }

  void submit(IoTask& task) noexcept override {
    if (task.kind == IoTask::Kind::kBlockingCall) return blocking_->submit(task);
    const std::shared_ptr<Ring> ring = ring_;
    ring->submit(task);
  }

 private:
  const std::shared_ptr<IoEngine> blocking_;
  const std::shared_ptr<Ring> ring_;
  std::thread thread_;
};

}  // namespace

std::shared_ptr<IoEngine> make_uring_engine(std::shared_ptr<IoEngine> blocking) {
  auto ring = std::make_shared<Ring>(blocking);
  if (!ring->open()) return nullptr;
  try {
    return std::make_shared<UringEngine>(std::move(blocking), std::move(ring));
  } catch (const std::system_error&) {
    return nullptr;  // no thread to be had
  }
}

}  // namespace tidemark
