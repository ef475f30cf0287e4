#include "device/engine_uring.h"

#include <sys/eventfd.h>

#include <system_error>
#include <thread>

#include "common/fd.h"
#include "common/io_flusher.h"
#include "common/mutex.h"
#include "device/loop_ring.h"
#include "device/ring_queue.h"

namespace tidemark {

namespace {

// What submitters and the ring's thread share; each holds a reference, so that
// the last device may go while one of them is still returning.
class Ring {
 public:
  explicit Ring(std::shared_ptr<IoEngine> blocking) : queue_(std::move(blocking)) {}
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  bool open() noexcept;
  void submit(IoTask& task) noexcept;
  void stop() noexcept;
  void run() noexcept;

 private:
  void wake() noexcept;
  bool take_submitted(IoTaskQueue& taken) noexcept;

  UniqueFd wakeup_;

  // Of the thread in run(), after open().
  RingQueue queue_;
  uint64_t wakeup_count_ = 0;

  Mutex mutex_;
  IoTaskQueue submitted_ GUARDED_BY(mutex_);
  bool is_waiting_ GUARDED_BY(mutex_) = false;  // the thread needs a write to wakeup_
  bool stopping_ GUARDED_BY(mutex_) = false;
};

bool Ring::open() noexcept {
  wakeup_.reset(::eventfd(0, EFD_CLOEXEC));
  return wakeup_.is_open() && queue_.open();
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
  queue_.enable();
  queue_.prepare_wakeup(wakeup_.get(), wakeup_count_);
  for (IoTaskQueue taken; take_submitted(taken);) {
    follow_io_flushers();
    while (IoTask* task = taken.pop()) queue_.prepare(*task);
    queue_.submit_and_wait();
    {
      const MutexLock lock(mutex_);
      is_waiting_ = false;
    }
    if (queue_.reap()) queue_.prepare_wakeup(wakeup_.get(), wakeup_count_);
  }
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
    if (LoopRing* own = LoopRing::of_this_thread()) return own->submit(task);
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
