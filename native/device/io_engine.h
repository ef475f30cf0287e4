// Where file I/O goes that would make its submitter wait.
//
// One engine of each kind serves all FileDevices of the process; it starts with
// the first device that needs it and ends with the last. An engine takes a task
// from any thread, finishes it completely (short transfers and EINTR are its own
// affair) and calls `done` exactly once, on a thread of its own. After `done` has
// been entered the engine touches neither the task nor the device, so that a
// completion may destroy both.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "device/file_device.h"

namespace tidemark {

struct IoTask {
  enum class Kind : uint8_t { kRead, kWrite, kBlockingCall };

  Kind kind = Kind::kRead;
  int fd = -1;
  int rw_flags = 0;  // RWF_* of a write
  // A transfer's rest: the engine moves these three on as bytes arrive.
  uint64_t offset_bytes = 0;
  uint64_t remaining_bytes = 0;
  std::byte* data = nullptr;

  int (*call)(IoTask& task) noexcept = nullptr;  // kBlockingCall: 0 or an errno
  void (*done)(IoTask& task, int error) noexcept = nullptr;

  IoTask* next = nullptr;  // of the engine's queue
};

// First in, first out; links tasks through `next`.
class IoTaskQueue {
 public:
  bool is_empty() const noexcept { return head_ == nullptr; }
  void push(IoTask& task) noexcept;
  IoTask* pop() noexcept;

 private:
  IoTask* head_ = nullptr;
  IoTask* tail_ = nullptr;
};

// Does the whole task on the calling thread; 0 or an errno. Does not call `done`.
int run_io_task(IoTask& task) noexcept;

// Books what one read or write of the task's rest returned (bytes or -errno).
// True while there is more to transfer; false with `error` set when it is over.
bool advance_io_task(IoTask& task, int64_t result, int& error) noexcept;

// Names the calling engine thread and keeps the process's signals away from it.
void enter_io_thread(const char* name) noexcept;

class IoEngine {
 public:
  virtual ~IoEngine() = default;
  virtual const char* name() const noexcept = 0;
  // The engine may be destroyed as soon as `done` has run, even while this call
  // has not returned yet.
  virtual void submit(IoTask& task) noexcept = 0;
};

// Never null: where io_uring is not to be had, the answer is threads.
std::shared_ptr<IoEngine> acquire_io_engine(IoEngineKind kind);

}  // namespace tidemark
