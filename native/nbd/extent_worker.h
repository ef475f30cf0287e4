// ExtentWorker: asks devices for extents that they do not know from memory: a
// look-up on a disk, a round trip to another server.
//
// Each I/O thread has one, whose thread is started by its first query. So such a
// query holds up other queries of that kind, and never a read or a write.
#pragma once

#include <condition_variable>
#include <deque>
#include <thread>

#include "common/mutex.h"
#include "nbd/completion_mailbox.h"

namespace tidemark::nbd {

class ExtentWorker {
 public:
  explicit ExtentWorker(CompletionMailbox& mailbox) : mailbox_(mailbox) {}
  ~ExtentWorker();  // after the last query has come back
  ExtentWorker(const ExtentWorker&) = delete;
  ExtentWorker& operator=(const ExtentWorker&) = delete;

  // The I/O thread. Comes back through the mailbox, its status query run.
  void post(NbdRequest& request);

 private:
  void run();
  NbdRequest* take();  // null: it ends
  void answer(NbdRequest& request) noexcept;

  CompletionMailbox& mailbox_;
  std::thread thread_;  // the I/O thread's

  Mutex mutex_;
  std::condition_variable changed_;
  std::deque<NbdRequest*> waiting_ GUARDED_BY(mutex_);
  bool is_ending_ GUARDED_BY(mutex_) = false;
};

}  // namespace tidemark::nbd
