#include "bitmap/intent_log.h"

#include <cassert>
#include <chrono>
#include <utility>

#include "common/failpoint.h"
#include "common/io_flusher.h"

namespace tidemark {

namespace {

// Between attempts to write down that the file is not to be believed.
constexpr std::chrono::seconds kDistrustRetry{1};

}  // namespace

IntentLog::IntentLog(std::unique_ptr<IntentStorage> storage, const IntentPage& page,
                     Durability durability, std::string trouble)
    : disk_(page.disk()),
      layout_(page.layout()),
      durability_(durability),
      states_(std::make_unique<std::atomic<uint8_t>[]>(page.layout().count)),
      storage_(std::move(storage)),
      written_(page),
      trouble_(std::move(trouble)) {
  for (uint32_t region = 0; region < layout_.count; ++region) {
    const bool is_marked = durability_ == Durability::kProcessSafe || page.is_marked(region);
    states_[region].store(is_marked ? kMarked : kQuiet, std::memory_order_relaxed);
  }
}

IntentLog::~IntentLog() { stop(); }

Status IntentLog::begin() {
  if (durability_ == Durability::kPowerSafe) return write(page_of_states());
  written_ = IntentPage(disk_, layout_);
  return write_sector(written_, 0);
}

void IntentLog::start() {
  const MutexLock lock(mutex_);
  if (thread_.joinable() || is_retired_) return;
  is_ending_ = false;
  thread_ = std::thread([this] { run(); });
}

bool IntentLog::is_started() const {
  const MutexLock lock(mutex_);
  return thread_.joinable();
}

void IntentLog::stop() {
  std::thread thread;
  {
    const MutexLock lock(mutex_);
    is_ending_ = true;
    thread.swap(thread_);
    work_.notify_all();
  }
  if (thread.joinable()) thread.join();
}

void IntentLog::retire() {
  {
    const MutexLock lock(mutex_);
    is_retired_ = true;
  }
  stop();
  mark_all();
  Work left;
  {
    const MutexLock lock(mutex_);
    left = take_work();
  }
  resume(left.first_waiter);
}

// -- Writers -------------------------------------------------------------------

bool IntentLog::keep(uint64_t region) noexcept {
  uint8_t expected = kCooling;
  return states_[region].compare_exchange_strong(expected, kMarked, std::memory_order_acq_rel) ||
         expected == kMarked;
}

void IntentLog::wait_for_mark(IntentWaiter& waiter) noexcept {
  waiter_count_.fetch_add(1, std::memory_order_relaxed);
  {
    const MutexLock lock(mutex_);
    if (!is_retired_) {
      *last_waiter_ = &waiter;
      last_waiter_ = &waiter.next_;
      work_.notify_one();
      return;
    }
  }
  waiter.resume();
}

// -- The log's thread ----------------------------------------------------------

void IntentLog::run() noexcept {
  Work work;
  while (wait_for_work(work)) {
    follow_io_flushers();
    do_work(work);
  }
}

bool IntentLog::wait_for_work(Work& work) {
  MutexLock lock(mutex_);
  const auto has_work = [this]() NO_THREAD_SAFETY_ANALYSIS {
    return is_ending_ || first_waiter_ != nullptr || has_clears_ || must_distrust_;
  };
  if (is_in_trouble() && !distrust_is_durable_) {
    lock.wait_until(work_, std::chrono::steady_clock::now() + kDistrustRetry, has_work);
  } else {
    lock.wait(work_, has_work);
  }
  work = take_work();
  return !is_ending_ || work.first_waiter != nullptr || work.must_distrust;
}

IntentLog::Work IntentLog::take_work() {
  Work work;
  work.first_waiter = std::exchange(first_waiter_, nullptr);
  last_waiter_ = &first_waiter_;
  work.has_clears = std::exchange(has_clears_, false);
  work.must_distrust = must_distrust_;
  return work;
}

void IntentLog::do_work(const Work& work) noexcept {
  if (is_in_trouble()) {
    persist_distrust();
  } else {
    commit(work);
  }
  resume(work.first_waiter);
  if (work.must_distrust) answer_distrust();
}

void IntentLog::work() noexcept {
  Work work;
  {
    const MutexLock lock(mutex_);
    assert(!thread_.joinable());
    work = take_work();
  }
  do_work(work);
}

void IntentLog::answer_distrust() {
  const MutexLock lock(mutex_);
  must_distrust_ = false;
  distrusted_.notify_all();
}

// Everything that is not quiet stays marked: a region that cools off meanwhile is
// left out by the next commit.
IntentPage IntentLog::page_of_states() const noexcept {
  IntentPage page(disk_, layout_);
  page.set_exact(true);
  for (uint32_t region = 0; region < layout_.count; ++region) {
    if (states_[region].load(std::memory_order_acquire) != kQuiet) page.mark(region);
  }
  return page;
}

// True: the file does not have all of these marks yet.
bool IntentLog::add_waiters(const IntentWaiter* waiter, IntentPage& page) const noexcept {
  bool is_new = false;
  for (; waiter != nullptr; waiter = waiter->next_) {
    const uint64_t last = (waiter->offset_bytes_ + waiter->length_bytes_ - 1) >> layout_.shift;
    for (uint64_t i = waiter->offset_bytes_ >> layout_.shift; i <= last; ++i) {
      const auto region = static_cast<uint32_t>(i);
      page.mark(region);
      is_new = is_new || !written_.is_marked(region);
    }
  }
  return is_new;
}

void IntentLog::commit(const Work& work) noexcept {
  IntentPage page = page_of_states();
  const bool has_new_marks = add_waiters(work.first_waiter, page);
  if (!has_new_marks && !work.has_clears) return;
  Status status = write(page);
  if (status.is_ok() && has_new_marks) {
    failpoint("intent.written");
    status = storage_->sync();
    commit_count_.fetch_add(1, std::memory_order_relaxed);
    failpoint("intent.synced");
  }
  if (status.is_ok()) return;
  note_trouble(status);
  persist_distrust();
}

// The marks are durable, or nothing is believed any more.
void IntentLog::resume(IntentWaiter* first) noexcept {
  if (is_in_trouble()) mark_all();
  for (const IntentWaiter* waiter = first; waiter != nullptr; waiter = waiter->next_) {
    const uint64_t last = (waiter->offset_bytes_ + waiter->length_bytes_ - 1) >> layout_.shift;
    for (uint64_t region = waiter->offset_bytes_ >> layout_.shift; region <= last; ++region) {
      states_[region].store(kMarked, std::memory_order_release);
    }
  }
  while (first != nullptr) {
    IntentWaiter& waiter = *first;
    first = std::exchange(waiter.next_, nullptr);
    waiter.resume();
  }
}

// -- The file ------------------------------------------------------------------

Status IntentLog::write_sector(const IntentPage& page, uint32_t sector_index) {
  return storage_->write(sector_index * IntentPage::kSectorBytes, page.encode(sector_index));
}

Status IntentLog::write_marks(const IntentPage& page) {
  for (uint32_t i = 1; i < page.sector_count(); ++i) {
    if (written_.is_exact() && page.encode(i) == written_.encode(i)) continue;
    if (Status status = write_sector(page, i); !status.is_ok()) return status;
  }
  return Status::ok();
}

// Before the header says that the marks are exact, they are there.
Status IntentLog::write(const IntentPage& page) {
  if (page.is_exact()) {
    if (Status status = write_marks(page); !status.is_ok()) return status;
    if (!written_.is_exact()) {
      if (Status status = storage_->sync(); !status.is_ok()) return status;
    }
  }
  if (page.encode(0) != written_.encode(0)) {
    if (Status status = write_sector(page, 0); !status.is_ok()) return status;
  }
  written_ = page;
  return Status::ok();
}

// -- The quiet-down ------------------------------------------------------------

void IntentLog::cool() noexcept {
  if (durability_ == Durability::kProcessSafe || is_in_trouble()) return;
  for (uint32_t region = 0; region < layout_.count; ++region) {
    uint8_t expected = kMarked;
    states_[region].compare_exchange_strong(expected, kCooling, std::memory_order_seq_cst);
  }
}

std::vector<uint32_t> IntentLog::cooling() const {
  std::vector<uint32_t> regions;
  for (uint32_t region = 0; region < layout_.count; ++region) {
    if (states_[region].load(std::memory_order_acquire) == kCooling) regions.push_back(region);
  }
  return regions;
}

void IntentLog::make_quiet(std::span<const uint32_t> regions) noexcept {
  if (is_in_trouble()) return;
  for (const uint32_t region : regions) {
    uint8_t expected = kCooling;
    states_[region].compare_exchange_strong(expected, kQuiet, std::memory_order_seq_cst);
  }
  const MutexLock lock(mutex_);
  has_clears_ = true;
  work_.notify_one();
}

// -- The owner -----------------------------------------------------------------

Status IntentLog::finish(bool is_flushed) {
  stop();
  if (is_in_trouble()) {
    persist_distrust();
    return Status::ok();
  }
  IntentPage page = page_of_states();
  if (durability_ == Durability::kProcessSafe) {
    page = IntentPage(disk_, layout_);
    page.set_exact(is_flushed);
  }
  Status status = write(page);
  if (status.is_ok()) status = storage_->sync();
  if (!status.is_ok()) note_trouble(status);
  return status;
}

void IntentLog::distrust(const Status& reason) {
  note_trouble(reason);
  {
    MutexLock lock(mutex_);
    if (thread_.joinable()) {
      must_distrust_ = true;
      work_.notify_one();
      lock.wait(distrusted_, [this]() NO_THREAD_SAFETY_ANALYSIS { return !must_distrust_; });
      return;
    }
  }
  mark_all();
  persist_distrust();
}

void IntentLog::note_trouble(const Status& reason) {
  const MutexLock lock(mutex_);
  if (!is_in_trouble()) trouble_ = reason.message();
  is_in_trouble_.store(true, std::memory_order_release);
}

void IntentLog::persist_distrust() noexcept {
  if (distrust_is_durable_) return;
  IntentPage page(disk_, layout_);
  page.set_distrusted(true);
  written_ = page;
  Status status = write_sector(page, 0);
  if (status.is_ok()) status = storage_->sync();
  distrust_is_durable_ = status.is_ok();
}

// A quiet-down that is under way may take a region back to quiet: its next writer
// comes to the log's thread, and is let go at once.
void IntentLog::mark_all() noexcept {
  for (uint32_t region = 0; region < layout_.count; ++region) {
    states_[region].store(kMarked, std::memory_order_release);
  }
}

std::vector<uint32_t> IntentLog::marked() const {
  std::vector<uint32_t> regions;
  for (uint32_t region = 0; region < layout_.count; ++region) {
    if (states_[region].load(std::memory_order_acquire) != kQuiet) regions.push_back(region);
  }
  return regions;
}

IntentStatus IntentLog::status() const {
  IntentStatus status;
  status.durability = durability_;
  status.region_bytes = layout_.region_bytes();
  status.region_count = layout_.count;
  status.marked_count = static_cast<uint32_t>(marked().size());
  status.commit_count = commit_count_.load(std::memory_order_relaxed);
  status.waiter_count = waiter_count_.load(std::memory_order_relaxed);
  const MutexLock lock(mutex_);
  status.trouble = trouble_;
  return status;
}

}  // namespace tidemark
