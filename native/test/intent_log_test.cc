// The intent log over a page that records what reaches it, and when.
#include "bitmap/intent_log.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <random>
#include <thread>

using namespace tidemark;

namespace {

constexpr uint64_t kRegion = 64ULL << 20;
constexpr uint64_t kDiskBytes = 100 * kRegion - 1;
const Uuid kDisk = *Uuid::parse("6f1d0c1e-3c5b-4f0a-9a52-0f6a5b1c2d3e");
const RegionLayout kLayout = RegionLayout::of(kDiskBytes);

using PageBytes = std::array<std::byte, kIntentPageBytes>;

// What the cache and the disk hold of the page.
class Paper {
 public:
  Status write(uint64_t offset_bytes, std::span<const std::byte> bytes) {
    const std::lock_guard lock(mutex_);
    if (failures_ > 0) {
      --failures_;
      return {ErrorCode::kIo, "refused"};
    }
    std::memcpy(cache_.data() + offset_bytes, bytes.data(), bytes.size());
    return Status::ok();
  }
  Status sync() {
    std::unique_lock lock(mutex_);
    ++begun_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return !is_held_; });
    if (failures_ > 0) {
      --failures_;
      return {ErrorCode::kIo, "the sync was refused"};
    }
    if (!loses_syncs_) disk_ = cache_;
    ++sync_count_;
    return Status::ok();
  }

  void hold(bool is_held) {
    const std::lock_guard lock(mutex_);
    is_held_ = is_held;
    changed_.notify_all();
  }
  void wait_for_sync(int count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this, count] { return begun_ >= count; });
  }
  void fail(int count) {
    const std::lock_guard lock(mutex_);
    failures_ = count;
  }
  int sync_count() const {
    const std::lock_guard lock(mutex_);
    return sync_count_;
  }
  IntentPage on_disk() const { return read(disk_); }
  IntentPage in_cache() const { return read(cache_); }

 private:
  IntentPage read(const PageBytes& bytes) const {
    const std::lock_guard lock(mutex_);
    const auto page = IntentPage::decode(bytes, kDisk, kLayout);
    REQUIRE(page.is_ok());
    return page.value();
  }

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  PageBytes cache_{};
  PageBytes disk_{};
  int failures_ = 0;
  int begun_ = 0;
  int sync_count_ = 0;
  bool is_held_ = false;
  bool loses_syncs_ = false;
};

class OnPaper final : public IntentStorage {
 public:
  explicit OnPaper(Paper& paper) : paper_(paper) {}
  Status write(uint64_t offset_bytes, std::span<const std::byte> bytes) override {
    return paper_.write(offset_bytes, bytes);
  }
  Status sync() override { return paper_.sync(); }

 private:
  Paper& paper_;
};

// A log that has begun, all of it quiet.
struct Log {
  explicit Log(Durability durability = Durability::kPowerSafe) {
    IntentPage quiet(kDisk, kLayout);
    quiet.set_exact(true);
    REQUIRE(paper.write(0, quiet.encode(0)).is_ok());
    REQUIRE(paper.write(512, quiet.encode(1)).is_ok());
    log = std::make_unique<IntentLog>(std::make_unique<OnPaper>(paper), quiet, durability, "");
    REQUIRE(log->begin().is_ok());
    REQUIRE(paper.sync().is_ok());
    syncs_before = paper.sync_count();
  }
  int syncs() const { return paper.sync_count() - syncs_before; }

  Paper paper;
  int syncs_before = 0;
  std::unique_ptr<IntentLog> log;
};

// A write that waits; says when it went on, and what the disk held of its mark then.
class Write final : public IntentWaiter {
 public:
  Write(Log& log, uint64_t region, std::vector<uint64_t>* order = nullptr)
      : Write(log, region * kRegion, 4096, order) {}
  Write(Log& log, uint64_t offset_bytes, uint64_t length_bytes, std::vector<uint64_t>* order)
      : IntentWaiter(offset_bytes, length_bytes),
        log_(log),
        first_(static_cast<uint32_t>(offset_bytes / kRegion)),
        last_(static_cast<uint32_t>((offset_bytes + length_bytes - 1) / kRegion)),
        order_(order) {}

  void park() { log_.log->wait_for_mark(*this); }
  void resume() noexcept override {
    const std::lock_guard lock(mutex_);
    ++resumed_count_;
    const IntentPage page = log_.paper.on_disk();
    was_durable_ = true;
    for (uint32_t region = first_; region <= last_; ++region) {
      was_durable_ = was_durable_ && page.is_marked(region);
    }
    if (order_ != nullptr) order_->push_back(first_);
    changed_.notify_all();
  }
  bool wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return resumed_count_ > 0; });
    return was_durable_;
  }
  int resumed_count() const {
    const std::lock_guard lock(mutex_);
    return resumed_count_;
  }

 private:
  Log& log_;
  const uint32_t first_;
  const uint32_t last_;
  std::vector<uint64_t>* order_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  int resumed_count_ = 0;
  bool was_durable_ = false;
};

bool is_marked(Log& log, uint64_t region) { return log.log->is_marked(region * kRegion, 1); }

}  // namespace

TEST_CASE("T1: a write to a quiet region goes on only when its mark is on the disk") {
  Log log;
  log.log->start();
  CHECK_FALSE(is_marked(log, 3));
  Write write(log, 3);
  log.paper.hold(true);
  write.park();
  log.paper.wait_for_sync(2);
  CHECK(write.resumed_count() == 0);
  CHECK_FALSE(is_marked(log, 3));
  log.paper.hold(false);
  CHECK(write.wait());
  CHECK(is_marked(log, 3));
  CHECK_FALSE(is_marked(log, 4));
  CHECK(write.resumed_count() == 1);
}

TEST_CASE("T2: a second write to the region waits as long as the mark is not durable") {
  Log log;
  log.log->start();
  log.paper.hold(true);
  Write first(log, 3);
  first.park();
  log.paper.wait_for_sync(2);  // written, not synced
  CHECK_FALSE(is_marked(log, 3));
  Write second(log, 3);
  second.park();
  log.paper.hold(false);
  CHECK(first.wait());
  CHECK(second.wait());
  CHECK(log.syncs() == 1);  // the second found it durable
}

TEST_CASE("writes that wait at the same time share one sync, and go on in their order") {
  Log log;
  log.log->start();
  log.paper.hold(true);
  std::vector<uint64_t> order;
  Write first(log, 0, &order);
  first.park();
  log.paper.wait_for_sync(2);
  std::vector<std::unique_ptr<Write>> writes;
  for (uint64_t region : {9, 5, 9, 7, 30, 5}) {
    writes.push_back(std::make_unique<Write>(log, region, &order));
    writes.back()->park();
  }
  log.paper.hold(false);
  CHECK(first.wait());
  for (const auto& write : writes) CHECK(write->wait());
  CHECK(log.syncs() == 2);
  CHECK(order == std::vector<uint64_t>{0, 9, 5, 9, 7, 30, 5});
  CHECK(log.log->status().commit_count == 2);
  CHECK(log.log->status().waiter_count == 7);
  CHECK(log.log->status().marked_count == 5);
}

TEST_CASE("a write that spans regions waits for all of them") {
  Log log;
  Write part(log, 11);
  part.park();
  log.log->work();
  CHECK(log.log->is_marked(11 * kRegion, kRegion));
  CHECK_FALSE(log.log->is_marked(11 * kRegion, kRegion + 1));
  CHECK_FALSE(log.log->is_marked(11 * kRegion - 1, 2));
  Write whole(log, 10 * kRegion + 5, 3 * kRegion, nullptr);
  whole.park();
  log.log->work();
  CHECK(whole.wait());
  CHECK(log.log->is_marked(10 * kRegion, 4 * kRegion));
  CHECK(log.log->is_marked(kDiskBytes - 1, 1) == false);
}

TEST_CASE("a region that cools off is cleared; with a write in between it stays marked") {
  Log log;
  Write a(log, 1);
  Write b(log, 2);
  a.park();
  b.park();
  log.log->work();
  log.log->cool();
  const auto cooling = log.log->cooling();
  CHECK(cooling == std::vector<uint32_t>{1, 2});
  CHECK(is_marked(log, 2));  // a write: it need not wait
  log.log->make_quiet(cooling);
  log.log->work();
  CHECK_FALSE(is_marked(log, 1));
  CHECK(is_marked(log, 2));
  CHECK_FALSE(log.paper.in_cache().is_marked(1));
  CHECK(log.paper.in_cache().is_marked(2));
  CHECK(log.syncs() == 1);  // clears wait for no sync
  Write again(log, 1);
  again.park();
  log.log->work();
  CHECK(again.wait());
  CHECK(log.syncs() == 2);
}

TEST_CASE("a mark that never left the disk costs no sync the second time") {
  Log log;
  Write first(log, 1);
  first.park();
  log.log->work();
  log.log->cool();
  log.log->make_quiet(log.log->cooling());
  Write again(log, 1);  // before the clear was written
  again.park();
  log.log->work();
  CHECK(again.wait());
  CHECK(is_marked(log, 1));
  CHECK(log.syncs() == 1);
}

TEST_CASE("T4: trouble holds no write up, and the file says that it is not to be believed") {
  for (const int failures : {1, 2, 3}) {
    Log log;
    CAPTURE(failures);
    log.log->start();
    log.paper.fail(failures);
    Write write(log, 3);
    write.park();
    write.wait();
    CHECK(log.log->is_in_trouble());
    CHECK(is_marked(log, 3));
    CHECK(is_marked(log, 77));
    CHECK(log.log->status().trouble.find("refused") != std::string::npos);
    log.log->cool();
    CHECK(log.log->cooling().empty());
    while (!log.paper.on_disk().is_distrusted()) std::this_thread::yield();
    CHECK(log.paper.on_disk().is_marked(50));
    Write later(log, 4);
    later.park();
    later.wait();
    CHECK(later.resumed_count() == 1);
  }
}

TEST_CASE("distrust is on the disk when it returns") {
  for (const bool with_thread : {true, false}) {
    Log log;
    if (with_thread) log.log->start();
    log.log->distrust({ErrorCode::kIo, "a map was not synced"});
    CHECK(log.paper.on_disk().is_distrusted());
    CHECK(log.log->status().trouble == "a map was not synced");
    CHECK(is_marked(log, 9));
  }
}

TEST_CASE("process-safe: nobody waits, and the file says that anything may be lost") {
  Log log(Durability::kProcessSafe);
  CHECK(is_marked(log, 0));
  CHECK(is_marked(log, 99));
  CHECK_FALSE(log.paper.on_disk().is_exact());
  log.log->cool();
  CHECK(log.log->cooling().empty());
  REQUIRE(log.log->finish(true).is_ok());
  CHECK(log.paper.on_disk().is_exact());
  CHECK_FALSE(log.paper.on_disk().is_marked(0));
}

TEST_CASE("a finished log leaves the marks of what could not be flushed") {
  Log log;
  Write write(log, 3);
  write.park();
  log.log->work();
  REQUIRE(log.log->finish(false).is_ok());
  CHECK(log.paper.on_disk().is_marked(3));
  CHECK_FALSE(log.paper.on_disk().is_marked(4));
}

TEST_CASE("whoever comes to a retired log is let go") {
  Log log;
  Write before(log, 3);
  before.park();
  log.log->retire();
  CHECK(before.resumed_count() == 1);
  CHECK(is_marked(log, 60));
  Write after(log, 5);
  after.park();
  CHECK(after.resumed_count() == 1);
}

TEST_CASE("threads that write and a quiet-down beside them: no write without its mark on disk") {
  Log log;
  log.log->start();
  std::atomic<bool> is_ending{false};
  std::thread quiet_down([&] {
    while (!is_ending.load()) {
      log.log->cool();
      std::this_thread::yield();
      const auto cooling = log.log->cooling();
      log.log->make_quiet(cooling);
    }
  });
  std::vector<std::thread> writers;
  std::atomic<int> waits{0};
  for (uint64_t seed = 0; seed < 3; ++seed) {
    writers.emplace_back([&log, &waits, seed] {
      std::mt19937_64 random(seed);
      for (int i = 0; i < 400; ++i) {
        const uint64_t region = random() % 8;
        if (log.log->is_marked(region * kRegion, 1)) continue;
        Write write(log, region);
        write.park();
        CHECK(write.wait());
        ++waits;
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
  is_ending = true;
  quiet_down.join();
  CHECK(waits > 0);
}
