#include "device/fault_device.h"

#include <algorithm>
#include <array>
#include <utility>

#include "common/mutex.h"

namespace tidemark {

namespace {

constexpr size_t kOpCount = 5;

struct Fault {
  int error = 0;
  uint64_t count = 0;
  uint64_t skip = 0;
  uint64_t partial_bytes = 0;
};

// What a request with a partial effect has to get back when it ends: its error and
// its own length, in the one word of a frame.
constexpr int kLengthBits = 48;
uint64_t pack(int error, uint64_t length_bytes) {
  assert(length_bytes >> kLengthBits == 0);
  return static_cast<uint64_t>(error) << kLengthBits | length_bytes;
}

void fail_after_part(IoRequest& request, void* /*context*/, uint64_t word, int /*error*/) noexcept {
  request.length_bytes = word & ((1ULL << kLengthBits) - 1);
  request.complete(static_cast<int>(word >> kLengthBits));
}

class FaultDeviceImpl final : public FaultDevice {
 public:
  explicit FaultDeviceImpl(std::shared_ptr<BlockDevice> inner) : inner_(std::move(inner)) {}

  uint64_t size_bytes() const noexcept override { return inner_->size_bytes(); }
  const DeviceTraits& traits() const noexcept override { return inner_->traits(); }
  std::vector<std::string> extent_contexts() const override { return inner_->extent_contexts(); }
  Status query_extents(std::string_view context, uint64_t offset_bytes, uint64_t length_bytes,
                       size_t max_extents, std::vector<DeviceExtent>& extents) override {
    return inner_->query_extents(context, offset_bytes, length_bytes, max_extents, extents);
  }

  uint64_t loss_count() const noexcept override { return inner_->loss_count(); }
  void give_up() noexcept override { inner_->give_up(); }

  Status resize(uint64_t size_bytes) override { return inner_->resize(size_bytes); }
  Status lock_image(ImageLockMode mode) override { return inner_->lock_image(mode); }
  void submit(IoRequest& request) noexcept override {
    if (!keep(request)) go_on(request);
  }
  void fail_next(IoOp op, int error, uint64_t count, uint64_t skip,
                 uint64_t partial_bytes) override {
    const MutexLock lock(mutex_);
    faults_[static_cast<size_t>(op)] = {error, count, skip, partial_bytes};
  }
  void hold(IoOp op) override {
    const MutexLock lock(mutex_);
    is_held_[static_cast<size_t>(op)] = true;
  }
  uint64_t held_count() const override {
    const MutexLock lock(mutex_);
    return held_count_;
  }
  void release_held() override;

 private:
  bool keep(IoRequest& request) noexcept;
  bool take_fault(IoOp op, Fault& fault) noexcept;
  void go_on(IoRequest& request) noexcept;

  const std::shared_ptr<BlockDevice> inner_;

  mutable Mutex mutex_;
  std::array<Fault, kOpCount> faults_ GUARDED_BY(mutex_);
  std::array<bool, kOpCount> is_held_ GUARDED_BY(mutex_){};
  // Held requests, oldest first, linked through IoRequest::next.
  IoRequest* held_head_ GUARDED_BY(mutex_) = nullptr;
  IoRequest* held_tail_ GUARDED_BY(mutex_) = nullptr;
  uint64_t held_count_ GUARDED_BY(mutex_) = 0;
};

bool FaultDeviceImpl::keep(IoRequest& request) noexcept {
  const MutexLock lock(mutex_);
  if (!is_held_[static_cast<size_t>(request.op)]) return false;
  request.next = nullptr;
  (held_head_ == nullptr ? held_head_ : held_tail_->next) = &request;
  held_tail_ = &request;
  ++held_count_;
  return true;
}

void FaultDeviceImpl::release_held() {
  IoRequest* request = nullptr;
  {
    const MutexLock lock(mutex_);
    is_held_.fill(false);
    request = std::exchange(held_head_, nullptr);
    held_count_ = 0;
  }
  while (request != nullptr) {
    IoRequest* next = std::exchange(request->next, nullptr);
    go_on(*request);
    request = next;
  }
}

bool FaultDeviceImpl::take_fault(IoOp op, Fault& fault) noexcept {
  const MutexLock lock(mutex_);
  Fault& armed = faults_[static_cast<size_t>(op)];
  if (armed.count == 0) return false;
  if (armed.skip > 0) {
    --armed.skip;
    return false;
  }
  --armed.count;
  fault = armed;
  return true;
}

void FaultDeviceImpl::go_on(IoRequest& request) noexcept {
  Fault fault;
  if (!take_fault(request.op, fault)) return inner_->submit(request);
  const uint64_t step = inner_->traits().minimum_block_bytes;
  const uint64_t part = std::min(fault.partial_bytes, request.length_bytes) / step * step;
  if (!request.is_write_class() || part == 0) return request.complete(fault.error);
  request.push(fail_after_part, nullptr, pack(fault.error, request.length_bytes));
  request.length_bytes = part;
  inner_->submit(request);
}

}  // namespace

std::shared_ptr<FaultDevice> make_fault_device(std::shared_ptr<BlockDevice> inner) {
  return std::make_shared<FaultDeviceImpl>(std::move(inner));
}

}  // namespace tidemark
