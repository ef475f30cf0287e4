#include "tracking/quiet_down.h"

#include <algorithm>

#include "common/failpoint.h"
#include "common/io_flusher.h"
#include "device/sync_io.h"
#include "tracking/tracked_device_impl.h"

namespace tidemark {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kLossPoll{1};

Status not_quiet(ErrorCode code, const char* reason) {
  return {code, std::string("Cannot take back marks of the intent log: because ") + reason};
}

}  // namespace

QuietDown::QuietDown(TrackedDevice::Impl& device)
    : device_(device), known_loss_count_(device.backing().loss_count()) {}

QuietDown::~QuietDown() {
  if (is_flushing_.load()) device_.backing().give_up();
  stop();
}

void QuietDown::start(std::chrono::milliseconds interval) {
  thread_ = std::thread([this, interval] { run(interval); });
}

void QuietDown::stop() {
  {
    const MutexLock lock(mutex_);
    is_ending_ = true;
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
  const MutexLock lock(mutex_);
  is_ending_ = false;
}

bool QuietDown::is_ending() const {
  const MutexLock lock(mutex_);
  return is_ending_;
}

void QuietDown::flush_failed() noexcept {
  has_failed_flush_.store(true, std::memory_order_release);
  const MutexLock lock(mutex_);
  changed_.notify_all();
}

void QuietDown::run(std::chrono::milliseconds interval) noexcept {
  auto next_round = Clock::now() + interval;
  for (;;) {
    {
      MutexLock lock(mutex_);
      const auto until = std::min(next_round, Clock::now() + kLossPoll);
      lock.wait_until(changed_, until, [this]() NO_THREAD_SAFETY_ANALYSIS {
        return is_ending_ || has_failed_flush_.load(std::memory_order_acquire);
      });
      if (is_ending_) return;
    }
    follow_io_flushers();
    if (has_lost_writes()) suspect_what_is_marked();
    look_at_backing();
    if (Clock::now() < next_round) continue;
    run_round();
    next_round = Clock::now() + interval;
  }
}

void QuietDown::run_round() {
  IntentLog& log = device_.bitmap().intents();
  if (!device_.backing().traits().can_flush) return;
  const std::vector<uint32_t> idle = log.cooling();
  log.cool();
  if (!idle.empty()) (void)make_quiet(idle, log);
}

// The regions are cooling, and were so before this began: who had seen them marked is
// waited for, and whoever comes later takes them out of that state.
Status QuietDown::make_quiet(std::span<const uint32_t> regions, IntentLog& log) {
  if (!wait_for_writes()) return not_quiet(ErrorCode::kClosed, "the disk is being closed.");
  Status status = flush_backing();
  if (!wait_for_flushes()) return not_quiet(ErrorCode::kClosed, "the disk is being closed.");
  if (has_lost_writes()) {
    suspect_what_is_marked();
    return status.is_ok() ? not_quiet(ErrorCode::kIo, "writes were lost.") : status;
  }
  failpoint("quiet.flushed");
  const MutexLock lock(device_.maps_mutex());
  if (&device_.bitmap().intents() != &log) {
    return not_quiet(ErrorCode::kInUse, "the disk grew meanwhile.");
  }
  if (status = sync_marks(regions, log); !status.is_ok()) return status;
  failpoint("quiet.synced");
  log.make_quiet(regions);
  return Status::ok();
}

bool QuietDown::wait_for_writes() {
  return device_.gate().wait_for_those_inside([this] { return is_ending(); });
}

// Those that are durable by themselves are inside the writes' gate.
bool QuietDown::wait_for_flushes() {
  return device_.flushes().wait_for_those_inside([this] { return is_ending(); }) &&
         wait_for_writes();
}

Status QuietDown::sync_marks(std::span<const uint32_t> regions, const IntentLog& log) {
  const uint64_t region_bytes = log.layout().region_bytes();
  for (size_t i = 0; i < regions.size();) {
    size_t end = i + 1;
    while (end < regions.size() && regions[end] == regions[end - 1] + 1) ++end;
    Status status = device_.bitmap().sync_live(regions[i] * region_bytes, (end - i) * region_bytes);
    if (!status.is_ok()) return status;
    i = end;
  }
  return Status::ok();
}

Status QuietDown::flush_backing() {
  is_flushing_.store(true);
  Status status = flush_sync(device_.backing());
  is_flushing_.store(false);
  if (!status.is_ok()) {
    untold_error_.store(status.sys_errno(), std::memory_order_release);
    has_failed_flush_.store(true, std::memory_order_release);
  }
  return status;
}

bool QuietDown::has_lost_writes() {
  const uint64_t loss_count = device_.backing().loss_count();
  const bool has_lost_touch = loss_count != known_loss_count_;
  known_loss_count_ = loss_count;
  const bool has_failed = has_failed_flush_.exchange(false, std::memory_order_acq_rel);
  return has_lost_touch || has_failed;
}

void QuietDown::suspect_what_is_marked() {
  const MutexLock lock(device_.maps_mutex());
  DirtyBitmap& bitmap = device_.bitmap();
  const std::vector<uint32_t> marked = bitmap.intents().marked();
  const Status status = bitmap.suspect_regions(marked, SuspicionCause::kLostWrites);
  if (!status.is_ok()) bitmap.intents().distrust(status);
}

void QuietDown::look_at_backing() {
  IntentLog& log = device_.bitmap().intents();
  if (!device_.canary().look(log.status().marked_count > 0)) return;
  const MutexLock lock(device_.maps_mutex());
  const Status status = device_.bitmap().mark_all_suspect(SuspicionCause::kForeignWrite);
  if (!status.is_ok()) device_.bitmap().intents().distrust(status);
}

Status QuietDown::settle() {
  stop();
  IntentLog& log = device_.bitmap().intents();
  Status status;
  if (device_.backing().traits().can_flush) {
    log.cool();
    status = make_quiet(log.cooling(), log);
  } else {
    status = not_quiet(ErrorCode::kUnsupported, "the disk has no flush.");
  }
  // Where no region is marked (process-safe) nothing has made the marks durable yet, and
  // the log is about to say that all of them are.
  DirtyBitmap& bitmap = device_.bitmap();
  if (status.is_ok()) status = bitmap.sync_live(0, bitmap.disk_size_bytes());
  const Status finished = log.finish(status.is_ok());
  return status.is_ok() ? finished : status;
}

}  // namespace tidemark
