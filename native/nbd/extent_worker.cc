#include "nbd/extent_worker.h"

#include <pthread.h>

#include <cerrno>
#include <system_error>

#include "common/io_flusher.h"
#include "nbd/status_query.h"

namespace tidemark::nbd {

ExtentWorker::~ExtentWorker() {
  {
    const MutexLock lock(mutex_);
    is_ending_ = true;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void ExtentWorker::post(NbdRequest& request) {
  if (!thread_.joinable()) {
    try {
      thread_ = std::thread([this] { run(); });  // with the I/O thread's signal mask
    } catch (const std::system_error&) {
      return answer(request);
    }
  }
  {
    const MutexLock lock(mutex_);
    waiting_.push_back(&request);
  }
  changed_.notify_one();
}

void ExtentWorker::run() {
  pthread_setname_np(pthread_self(), "tidemark-extent");
  while (NbdRequest* request = take()) {
    follow_io_flushers();
    answer(*request);
  }
}

NbdRequest* ExtentWorker::take() {
  MutexLock lock(mutex_);
  lock.wait(changed_,
            [this]() NO_THREAD_SAFETY_ANALYSIS { return is_ending_ || !waiting_.empty(); });
  if (waiting_.empty()) return nullptr;
  NbdRequest* request = waiting_.front();
  waiting_.pop_front();
  return request;
}

void ExtentWorker::answer(NbdRequest& request) noexcept {
  request.status->run();
  mailbox_.post(request);
}

}  // namespace tidemark::nbd
