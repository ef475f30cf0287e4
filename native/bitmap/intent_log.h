// IntentLog: a region's mark is durable before the first write to it since it was
// last quiet reaches the disk.
//
// Representation: a byte of state for each region in memory, and the IntentPage in
// the bitmap file.
//
//   quiet    not marked: a write waits for the mark
//   marked   durably marked: a write goes on after one load
//   cooling  durably marked too; the quiet-down has not seen a write since it looked
//            last. The first write makes it marked again, without waiting.
//
// Who changes what: a writer only cooling -> marked; the log's thread only -> marked,
// after the sync; the quiet-down only marked -> cooling -> quiet, the latter by
// compare-and-exchange, so that a write in between keeps the mark. A clear reaches the
// file some time later, with the next write of the page: until then the file says
// more than it must, never less.
//
// Group commit: who must wait is queued (IntentWaiter); the log's thread takes the
// whole queue, writes the page once, syncs once, and resumes all of them in the order
// of their arrival. Those that come meanwhile are the next group.
//
// Trouble (a write or sync that failed, here or in the maps) never holds a guest's
// write up: from then on every region counts as marked, and the page says that nothing
// of this file is to be believed after an unclean end. Writing that down is tried until
// it succeeds; it lasts until the next open.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "bitmap/intent_page.h"
#include "bitmap/intent_storage.h"
#include "common/mutex.h"
#include "common/status.h"

namespace tidemark {

// What a tracked disk's marks survive without everything being compared afterwards.
enum class Durability : uint8_t {
  kPowerSafe,    // the end of the process, of the kernel and of the power
  kProcessSafe,  // the end of the process; after that of the kernel all is suspect
};

// A write that waits for its regions' marks; resumed once, by the log's thread.
class IntentWaiter {
 public:
  IntentWaiter(uint64_t offset_bytes, uint64_t length_bytes) noexcept
      : offset_bytes_(offset_bytes), length_bytes_(length_bytes) {}
  virtual ~IntentWaiter() = default;
  IntentWaiter(const IntentWaiter&) = delete;
  IntentWaiter& operator=(const IntentWaiter&) = delete;

  // The waiter may end itself. Its regions were marked, which does not mean that
  // they still are: it asks again.
  virtual void resume() noexcept = 0;

 private:
  friend class IntentLog;
  const uint64_t offset_bytes_;
  const uint64_t length_bytes_;
  IntentWaiter* next_ = nullptr;
};

struct IntentStatus {
  Durability durability = Durability::kPowerSafe;
  uint64_t region_bytes = 0;
  uint32_t region_count = 0;
  uint32_t marked_count = 0;
  uint64_t commit_count = 0;  // syncs that writes waited for
  uint64_t waiter_count = 0;  // writes that waited
  std::string trouble;        // empty: none
};

class IntentLog {
 public:
  // `page` is what the storage holds, `trouble` why it could not be read (or empty).
  IntentLog(std::unique_ptr<IntentStorage> storage, const IntentPage& page, Durability durability,
            std::string trouble);
  ~IntentLog();  // nobody waits any more
  IntentLog(const IntentLog&) = delete;
  IntentLog& operator=(const IntentLog&) = delete;

  // Before the first write, by the owner: the page as this mode needs it, to be made
  // durable by the caller. What it said before has been acted on.
  Status begin();
  // The log's thread. Without it somebody calls work(): tests that choose the order.
  void start();
  bool is_started() const;
  // What the thread does, once, for whoever waits now.
  void work() noexcept;

  // -- Writers: any thread, inside the gate --------------------------------
  // True: durably marked, the write may go to the disk. One load a region.
  bool is_marked(uint64_t offset_bytes, uint64_t length_bytes) noexcept {
    const uint64_t last = (offset_bytes + length_bytes - 1) >> layout_.shift;
    for (uint64_t region = offset_bytes >> layout_.shift; region <= last; ++region) {
      if (states_[region].load(std::memory_order_acquire) != kMarked && !keep(region)) return false;
    }
    return true;
  }
  void wait_for_mark(IntentWaiter& waiter) noexcept;

  // -- The quiet-down: one thread ------------------------------------------
  // Nothing changes, and nothing is cooling, in trouble or in the mode kProcessSafe.
  void cool() noexcept;  // marked -> cooling
  std::vector<uint32_t> cooling() const;
  // Those of them that are still cooling. What was written to them before is durable.
  void make_quiet(std::span<const uint32_t> regions) noexcept;

  // -- The owner -----------------------------------------------------------
  // Nobody writes any more: the page says exactly what it must. With `is_flushed` the
  // backing is durable, which is all that the mode kProcessSafe needs to know.
  Status finish(bool is_flushed);
  // Another log, of the file that took this one's name, answers from now on: whoever
  // still comes here is let go at once. The file is not used any more.
  void retire();
  // Something of the file was not made durable. Blocks until that was written down, or
  // could not be. Not on a thread of the data path.
  void distrust(const Status& reason);
  bool is_in_trouble() const noexcept { return is_in_trouble_.load(std::memory_order_acquire); }
  IntentStatus status() const;

  Durability durability() const noexcept { return durability_; }
  const RegionLayout& layout() const noexcept { return layout_; }
  std::vector<uint32_t> marked() const;  // not quiet

 private:
  enum State : uint8_t { kQuiet, kMarked, kCooling };

  bool keep(uint64_t region) noexcept;
  void mark_all() noexcept;
  void run() noexcept;
  struct Work {
    IntentWaiter* first_waiter = nullptr;
    bool has_clears = false;
    bool must_distrust = false;
  };
  bool wait_for_work(Work& work);
  Work take_work() REQUIRES(mutex_);
  void do_work(const Work& work) noexcept;
  void answer_distrust();
  void commit(const Work& work) noexcept;
  IntentPage page_of_states() const noexcept;
  bool add_waiters(const IntentWaiter* first, IntentPage& page) const noexcept;
  void resume(IntentWaiter* first) noexcept;
  Status write(const IntentPage& page);
  Status write_sector(const IntentPage& page, uint32_t sector_index);
  Status write_marks(const IntentPage& page);
  void note_trouble(const Status& reason);
  void persist_distrust() noexcept;
  void stop();

  const Uuid disk_;
  const RegionLayout layout_;
  const Durability durability_;
  const std::unique_ptr<std::atomic<uint8_t>[]> states_;

  // Used by the log's thread while there is one, else by the owner.
  const std::unique_ptr<IntentStorage> storage_;
  IntentPage written_;
  bool distrust_is_durable_ = false;

  std::atomic<bool> is_in_trouble_{false};
  std::atomic<uint64_t> commit_count_{0};
  std::atomic<uint64_t> waiter_count_{0};

  mutable Mutex mutex_;
  std::condition_variable work_;
  IntentWaiter* first_waiter_ GUARDED_BY(mutex_) = nullptr;
  IntentWaiter** last_waiter_ GUARDED_BY(mutex_) = &first_waiter_;
  bool has_clears_ GUARDED_BY(mutex_) = false;
  bool must_distrust_ GUARDED_BY(mutex_) = false;
  std::condition_variable distrusted_;
  bool is_ending_ GUARDED_BY(mutex_) = false;
  bool is_retired_ GUARDED_BY(mutex_) = false;
  std::string trouble_ GUARDED_BY(mutex_);
  std::thread thread_ GUARDED_BY(mutex_);
};

}  // namespace tidemark
