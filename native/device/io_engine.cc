#include "device/io_engine.h"

#include <pthread.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "common/mutex.h"
#include "device/engine_threads.h"
#include "device/engine_uring.h"

namespace tidemark {

namespace {

struct Registry {
  Mutex mutex;
  std::weak_ptr<IoEngine> threads GUARDED_BY(mutex);
  std::weak_ptr<IoEngine> uring GUARDED_BY(mutex);

  std::shared_ptr<IoEngine> acquire_threads() REQUIRES(mutex) {
    std::shared_ptr<IoEngine> engine = threads.lock();
    if (engine == nullptr) threads = engine = make_threads_engine();
    return engine;
  }

  std::shared_ptr<IoEngine> acquire_uring() REQUIRES(mutex) {
    std::shared_ptr<IoEngine> engine = uring.lock();
    if (engine == nullptr) uring = engine = make_uring_engine(acquire_threads());
    return engine;
  }
};

// Never destroyed: a device may outlive the static objects of the process.
Registry& registry() {
  static Registry& instance = *new Registry;
  return instance;
}

// Without flags the plain calls: the vectored ones cost a little more.
int64_t transfer_once(const IoTask& task) noexcept {
  const iovec vector{task.data, task.remaining_bytes};
  const auto offset = static_cast<off_t>(task.offset_bytes);
  ssize_t result = 0;
  if (task.kind == IoTask::Kind::kRead) {
    result = ::pread(task.fd, task.data, task.remaining_bytes, offset);
  } else if (task.rw_flags == 0) {
    result = ::pwrite(task.fd, task.data, task.remaining_bytes, offset);
  } else {
    result = ::pwritev2(task.fd, &vector, 1, offset, task.rw_flags);
  }
  return result < 0 ? -errno : result;
}

}  // namespace

void IoTaskQueue::push(IoTask& task) noexcept {
  task.next = nullptr;
  (head_ == nullptr ? head_ : tail_->next) = &task;
  tail_ = &task;
}

IoTask* IoTaskQueue::pop() noexcept {
  IoTask* task = head_;
  if (task != nullptr) head_ = task->next;
  return task;
}

int run_io_task(IoTask& task) noexcept {
  if (task.kind == IoTask::Kind::kBlockingCall) return task.call(task);
  int error = 0;
  while (advance_io_task(task, transfer_once(task), error)) {
  }
  return error;
}

bool advance_io_task(IoTask& task, int64_t result, int& error) noexcept {
  if (result == -EINTR || result == -EAGAIN) return true;
  if (result <= 0) {
    // A transfer inside the device's size that moves nothing: the file was cut behind us.
    error = result < 0 ? static_cast<int>(-result) : EIO;
    return false;
  }
  const auto moved_bytes = static_cast<uint64_t>(result);
  task.data += moved_bytes;
  task.offset_bytes += moved_bytes;
  task.remaining_bytes -= moved_bytes;
  error = 0;
  return task.remaining_bytes > 0;
}

void enter_io_thread(const char* name) noexcept {
  ::pthread_setname_np(::pthread_self(), name);
  sigset_t all;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
}

std::shared_ptr<IoEngine> acquire_io_engine(IoEngineKind kind) {
  Registry& engines = registry();
  const MutexLock lock(engines.mutex);
  if (kind != IoEngineKind::kThreads) {
    if (auto engine = engines.acquire_uring()) return engine;
  }
  return engines.acquire_threads();
}

}  // namespace tidemark
