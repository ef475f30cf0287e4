#include "device/fenced_device.h"

#include <time.h>

#include <cerrno>
#include <utility>

#include "common/failpoint.h"

namespace tidemark {

namespace {

constexpr int kRenewalsPerLease = 3;
constexpr std::chrono::milliseconds kRetry{100};  // while writes wait for the record

// Goes on while the machine sleeps.
int64_t now_ns() noexcept {
  timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

}  // namespace

FencedDevice::FencedDevice(std::shared_ptr<BlockDevice> backing,
                           std::unique_ptr<OwnerRecord> record)
    : backing_(std::move(backing)),
      record_(std::move(record)),
      lease_until_ns_(now_ns() + std::chrono::nanoseconds(record_->lease()).count()),
      thread_([this] { run(); }) {}

FencedDevice::~FencedDevice() {
  {
    const MutexLock lock(mutex_);
    is_ending_ = true;
    changed_.notify_all();
  }
  thread_.join();
}

void FencedDevice::submit(IoRequest& request) noexcept {
  if (request.is_write_class()) return submit_write(request);
  if (request.op != IoOp::kFlush && is_fenced_.load(std::memory_order_acquire)) {
    return request.complete(EIO);
  }
  backing_->submit(request);
}

void FencedDevice::submit_write(IoRequest& request) noexcept {
  for (;;) {
    uint32_t shard = 0;
    if (!record_->enter(shard)) {
      is_fenced_.store(true, std::memory_order_release);
      return request.complete(EIO);
    }
    if (is_fenced_.load(std::memory_order_acquire)) {
      record_->leave(shard);
      return request.complete(EIO);
    }
    if (lease_holds()) {
      request.push(on_written, this, shard);
      failpoint("fence.passed");
      return backing_->submit(request);
    }
    record_->leave(shard);
    if (park(request)) return;
  }
}

bool FencedDevice::lease_holds() const noexcept {
  return now_ns() < lease_until_ns_.load(std::memory_order_acquire);
}

// False when the lease was renewed, or all was over, in between.
bool FencedDevice::park(IoRequest& request) noexcept {
  {
    const MutexLock lock(mutex_);
    if (lease_holds() || is_fenced_.load(std::memory_order_acquire)) return false;
    if (!is_given_up_) {
      request.next = nullptr;
      *last_parked_ = &request;
      last_parked_ = &request.next;
      changed_.notify_all();
      return true;
    }
  }
  request.complete(ESHUTDOWN);
  return true;
}

// Leaves the record before the answer: once the owner has it, this may be gone.
void FencedDevice::on_written(IoRequest& request, void* context, uint64_t shard,
                              int error) noexcept {
  static_cast<FencedDevice*>(context)->record_->leave(static_cast<uint32_t>(shard));
  request.complete(error);
}

void FencedDevice::run() noexcept {
  const auto interval = record_->lease() / kRenewalsPerLease;
  for (;;) {
    {
      MutexLock lock(mutex_);
      const auto is_wanted = [this]() NO_THREAD_SAFETY_ANALYSIS {
        return is_ending_ || (first_parked_ != nullptr && !lease_holds());
      };
      lock.wait_until(changed_, std::chrono::steady_clock::now() + interval, is_wanted);
      if (is_ending_) return;
    }
    renew();
    if (is_fenced_.load(std::memory_order_acquire)) {
      let_go(EIO);
    } else if (lease_holds()) {
      let_go(0);
    } else {
      std::this_thread::sleep_for(kRetry);
    }
  }
}

// The time before the reading: what it showed may be as old as that.
void FencedDevice::renew() noexcept {
  const int64_t began_ns = now_ns();
  const Result<bool> ours = record_->is_still_ours();
  if (!ours.is_ok()) return;
  if (!ours.value() || record_->is_fenced()) {
    is_fenced_.store(true, std::memory_order_release);
    return;
  }
  lease_until_ns_.store(began_ns + std::chrono::nanoseconds(record_->lease()).count(),
                        std::memory_order_release);
}

void FencedDevice::let_go(int error) noexcept {
  IoRequest* parked = nullptr;
  {
    const MutexLock lock(mutex_);
    parked = std::exchange(first_parked_, nullptr);
    last_parked_ = &first_parked_;
  }
  while (parked != nullptr) {
    IoRequest& request = *parked;
    parked = request.next;
    if (error != 0) {
      request.complete(error);
    } else {
      submit_write(request);
    }
  }
}

Status FencedDevice::as_owner(const std::function<Status()>& change) {
  uint32_t shard = 0;
  if (!is_fenced_.load(std::memory_order_acquire) && lease_holds() && record_->enter(shard)) {
    Status status = change();
    record_->leave(shard);
    return status;
  }
  return {ErrorCode::kFenced,
          "Cannot resize the disk: because another holder has taken it over. Use it there."};
}

Status FencedDevice::resize(uint64_t size_bytes) {
  return as_owner([&] { return backing_->resize(size_bytes); });
}

Status FencedDevice::shrink(uint64_t size_bytes) {
  auto* const backing = dynamic_cast<ShrinkableDevice*>(backing_.get());
  if (backing != nullptr) return as_owner([&] { return backing->shrink(size_bytes); });
  return {ErrorCode::kUnsupported,
          "Cannot shrink the disk: because what holds it cannot be cut. Shrink it where it is."};
}

void FencedDevice::give_up() noexcept {
  {
    const MutexLock lock(mutex_);
    is_given_up_ = true;
  }
  let_go(ESHUTDOWN);
  backing_->give_up();
}

OwnershipStatus FencedDevice::ownership() const noexcept {
  return {record_->epoch(), is_fenced_.load(std::memory_order_acquire) || record_->is_fenced()};
}

}  // namespace tidemark
