// SpillFile: where a capture keeps saved blocks when its memory is used up.
//
// Representation: an unlinked file of slots, one block each, handed out from a
// free list, else from the end. Workload: random single-block writes, each read
// once or never. A thread of its own, started with the first job, does the
// writing: the saving read completes on an I/O thread, which must not wait for
// this disk. Reading is done on the caller's thread.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "common/fd.h"
#include "common/mutex.h"
#include "common/status.h"

namespace tidemark {

// Blocks on their way to the file. Its owner keeps it until done() has run, on
// the spill thread; `error` is 0 or a positive errno.
struct SpillJob {
  std::vector<uint64_t> slots;  // one for each block of `bytes`
  const std::byte* bytes = nullptr;
  void (*done)(SpillJob& job, int error) noexcept = nullptr;
  void* context = nullptr;  // for done()
};

class SpillFile {
 public:
  // A file beside `path`, with a name of its own, unlinked before it returns.
  static Result<std::unique_ptr<SpillFile>> create(const std::string& path, uint32_t slot_bytes,
                                                   uint64_t slot_count);
  ~SpillFile();  // close()
  SpillFile(const SpillFile&) = delete;
  SpillFile& operator=(const SpillFile&) = delete;

  // Adds `count` free slots to `slots`; false, and nothing taken, when there are not as many.
  bool reserve(uint64_t count, std::vector<uint64_t>& slots);
  void give_back(uint64_t slot);

  // False when the file is closed or no thread could be started: done() does not run then.
  bool write_later(SpillJob& job);
  int read(uint64_t slot, uint64_t offset_in_slot, std::span<std::byte> into) noexcept;

  // Ends the thread (jobs in its queue end with ECANCELED) and gives the space
  // back. Not on the spill thread.
  void close() noexcept;

 private:
  SpillFile(UniqueFd fd, uint32_t slot_bytes, uint64_t slot_count)
      : fd_(std::move(fd)), slot_bytes_(slot_bytes), slot_count_(slot_count) {}

  void run() noexcept;
  SpillJob* next_job();
  int write(const SpillJob& job) noexcept;

  const UniqueFd fd_;
  const uint32_t slot_bytes_;
  const uint64_t slot_count_;

  Mutex mutex_;
  std::condition_variable work_;
  std::vector<uint64_t> free_slots_ GUARDED_BY(mutex_);
  uint64_t used_slots_ GUARDED_BY(mutex_) = 0;  // of the file, free ones among them
  std::deque<SpillJob*> queue_ GUARDED_BY(mutex_);
  bool is_closed_ GUARDED_BY(mutex_) = false;
  std::thread thread_ GUARDED_BY(mutex_);
};

}  // namespace tidemark
