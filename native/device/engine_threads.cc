#include "device/engine_threads.h"

#include <system_error>
#include <thread>
#include <vector>

#include "common/io_flusher.h"
#include "common/mutex.h"

namespace tidemark {

namespace {

constexpr size_t kMaxThreads = 32;

// What the pool's threads share. Each thread, and each submit() under way, holds
// a reference, so that the last device may go while they are still returning.
class Pool {
 public:
  void submit(const std::shared_ptr<Pool>& self, IoTask& task) noexcept;
  void stop() noexcept;

 private:
  void start_thread(const std::shared_ptr<Pool>& self) REQUIRES(mutex_);
  void work() noexcept;
  void run_inline() noexcept;
  IoTask* wait_for_task() noexcept;

  Mutex mutex_;
  std::condition_variable changed_;
  IoTaskQueue queue_ GUARDED_BY(mutex_);
  size_t queued_count_ GUARDED_BY(mutex_) = 0;
  size_t idle_count_ GUARDED_BY(mutex_) = 0;
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_ GUARDED_BY(mutex_);
};

void Pool::submit(const std::shared_ptr<Pool>& self, IoTask& task) noexcept {
  bool has_threads = true;
  {
    const MutexLock lock(mutex_);
    queue_.push(task);
    ++queued_count_;
    if (queued_count_ > idle_count_ && threads_.size() < kMaxThreads) start_thread(self);
    has_threads = !threads_.empty();
  }
  changed_.notify_one();
  if (!has_threads) run_inline();
}

void Pool::start_thread(const std::shared_ptr<Pool>& self) {
  try {
    threads_.emplace_back([self] { self->work(); });
  } catch (const std::exception&) {
    // No thread or no memory left: the ones that run, or the submitter, do the work.
  }
}

// Only when not even one thread could be started.
void Pool::run_inline() noexcept {
  IoTask* task = nullptr;
  {
    const MutexLock lock(mutex_);
    task = queue_.pop();
    if (task != nullptr) --queued_count_;
  }
  if (task != nullptr) task->done(*task, run_io_task(*task));
}

IoTask* Pool::wait_for_task() noexcept {
  MutexLock lock(mutex_);
  ++idle_count_;
  lock.wait(changed_,
            [this]() NO_THREAD_SAFETY_ANALYSIS { return stopping_ || !queue_.is_empty(); });
  --idle_count_;
  IoTask* task = queue_.pop();
  if (task != nullptr) --queued_count_;
  return task;
}

void Pool::work() noexcept {
  enter_io_thread("tidemark-io");
  while (IoTask* task = wait_for_task()) {
    follow_io_flushers();
    task->done(*task, run_io_task(*task));
  }
}

void Pool::stop() noexcept {
  std::vector<std::thread> threads;
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
    threads.swap(threads_);
  }
  changed_.notify_all();
  for (std::thread& thread : threads) {
    // The last device may be destroyed by a completion, on one of these threads.
    if (thread.get_id() == std::this_thread::get_id()) {
      thread.detach();
    } else {
      thread.join();
    }
  }
}

class ThreadsEngine final : public IoEngine {
 public:
  ~ThreadsEngine() override { pool_->stop(); }
  const char* name() const noexcept override { return "threads"; }
  void submit(IoTask& task) noexcept override {
    const std::shared_ptr<Pool> pool = pool_;
    pool->submit(pool, task);
  }

 private:
  const std::shared_ptr<Pool> pool_ = std::make_shared<Pool>();
};

}  // namespace

std::shared_ptr<IoEngine> make_threads_engine() { return std::make_shared<ThreadsEngine>(); }

}  // namespace tidemark
