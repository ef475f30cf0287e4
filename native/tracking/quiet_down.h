// QuietDown: takes the marks of the intent log back where nothing is written any more.
//
// A round every interval, on a thread of its own:
//   1  regions that nobody wrote to since the last round are candidates; all that are
//      marked begin to cool
//   2  the writes that are inside the gate now end (no gate is closed for that)
//   3  the backing is flushed: what was written to the candidates is durable
//   4  the live maps' pages of the candidates are synced: their marks are
//   5  candidates that are still cooling become quiet
// A write to a candidate at any time before 5 makes it marked again; from 5 on it waits
// for a new mark. Guests never wait for any of this.
//
// It also watches for writes that were lost: a flush that failed, the guest's or ours,
// and a backing that lost touch with what holds its data (loss_count()). Every region
// that is not quiet may then hold such writes, and is suspect for every target. Storage
// reports a loss to whoever flushes first; therefore, between 3 and 4, the flushes of
// others that were under way end too, and none of them may have failed.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <span>
#include <thread>

#include "bitmap/intent_log.h"
#include "common/mutex.h"
#include "common/status.h"
#include "tracking/tracked_device.h"

namespace tidemark {

class QuietDown {
 public:
  explicit QuietDown(TrackedDevice::Impl& device);
  ~QuietDown();  // what it has under way at the backing ends first
  QuietDown(const QuietDown&) = delete;
  QuietDown& operator=(const QuietDown&) = delete;

  // A round each `interval`: a region is quiet after one to two of them.
  void start(std::chrono::milliseconds interval);
  void stop();

  // One round, now. For one thread, and not beside start().
  void run_round();

  // Every second as well: has somebody written to the backing past the filter? Then all
  // of the disk is suspect. With run_round()'s rule for threads.
  void look_at_backing();

  // Nobody writes any more: flushes, and has the log say what is left of it. Ends the
  // thread. An error means that marks stay: after the end of this boot they are suspect.
  Status settle();

  // From the completion of a request that was to make something durable. Any thread.
  void flush_failed() noexcept;
  // The error of a flush of ours that no guest was told of yet, once; 0: none. The
  // storage reports it once, so the guest's next flush would succeed over the loss.
  int take_untold_error() noexcept { return untold_error_.exchange(0, std::memory_order_acq_rel); }

 private:
  void run(std::chrono::milliseconds interval) noexcept;
  bool is_ending() const;
  bool wait_for_writes();
  bool wait_for_flushes();
  Status make_quiet(std::span<const uint32_t> regions, IntentLog& log);
  Status sync_marks(std::span<const uint32_t> regions, const IntentLog& log);
  Status flush_backing();
  bool has_lost_writes();
  void suspect_what_is_marked();

  TrackedDevice::Impl& device_;
  uint64_t known_loss_count_;  // the thread's, or the owner's where there is none
  std::atomic<bool> has_failed_flush_{false};
  std::atomic<bool> is_flushing_{false};
  std::atomic<int> untold_error_{0};

  mutable Mutex mutex_;
  std::condition_variable changed_;
  bool is_ending_ GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace tidemark
