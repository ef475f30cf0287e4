// What the tests of native/tracking share: tracked disks on scratch bitmaps,
// requests that can be waited for, and devices that hold or reorder requests.
#pragma once

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "bitmap/dirty_bitmap.h"
#include "device/memory_device.h"
#include "device/sync_io.h"
#include "scratch_file.h"
#include "tracking/checkpoint.h"
#include "tracking/tracked_device.h"

namespace tidemark::tracking_test {

inline constexpr uint64_t kBlock = 4096;
using Bytes = std::vector<std::byte>;

inline Bytes filled(uint64_t length, int value) {
  return Bytes(length, static_cast<std::byte>(value));
}

inline bool is_all(const Bytes& bytes, int value) { return bytes == filled(bytes.size(), value); }

template <typename Predicate>
void wait_until(Predicate predicate) {
  while (!predicate()) std::this_thread::sleep_for(std::chrono::microseconds(50));
}

inline Bytes content_of(BlockDevice& device) {
  Bytes content(device.size_bytes());
  REQUIRE(read_sync(device, 0, content).is_ok());
  return content;
}

// A request with a buffer of its own.
class Request {
 public:
  Request(IoOp op, uint64_t offset_bytes, uint64_t length_bytes, int value = 0)
      : buffer_(filled(length_bytes, value)) {
    request_.op = op;
    request_.offset_bytes = offset_bytes;
    request_.length_bytes = length_bytes;
    if (op == IoOp::kRead || op == IoOp::kWrite) request_.data = buffer_.data();
  }
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;

  Bytes& buffer() { return buffer_; }
  std::function<void()> after;  // runs inside the completion

  Request& submit(BlockDevice& device) {
    request_.push(on_done, this);
    device.submit(request_);
    return *this;
  }
  bool is_done() const {
    const std::lock_guard lock(mutex_);
    return is_done_;
  }
  int wait() {
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return is_done_; });
    return error_;
  }

 private:
  static void on_done(IoRequest& /*request*/, void* context, uint64_t /*word*/,
                      int error) noexcept {
    auto* self = static_cast<Request*>(context);
    if (self->after) self->after();
    const std::lock_guard lock(self->mutex_);
    self->error_ = error;
    self->is_done_ = true;
    self->done_.notify_all();
  }

  Bytes buffer_;
  IoRequest request_;
  mutable std::mutex mutex_;
  std::condition_variable done_;
  bool is_done_ = false;
  int error_ = 0;
};

// Holds the requests that a predicate picks, until told to let them go, counts
// all of them, and can claim that a trim leaves the old content readable.
class StepDevice final : public BlockDevice {
 public:
  using Predicate = std::function<bool(const IoRequest&)>;

  explicit StepDevice(std::shared_ptr<BlockDevice> inner)
      : traits_(inner->traits()), inner_(std::move(inner)) {}

  uint64_t size_bytes() const noexcept override { return inner_->size_bytes(); }
  const DeviceTraits& traits() const noexcept override { return traits_; }
  void set_trim_reads_zero(bool reads_zero) { traits_.trim_reads_zero = reads_zero; }
  void set_minimum_block_bytes(uint32_t bytes) { traits_.minimum_block_bytes = bytes; }

  void submit(IoRequest& request) noexcept override {
    {
      const std::lock_guard lock(mutex_);
      ++counts_[static_cast<size_t>(request.op)];
      CHECK(request.offset_bytes % traits_.minimum_block_bytes == 0);
      CHECK(request.length_bytes % traits_.minimum_block_bytes == 0);
      if (predicate_ && predicate_(request)) {
        held_.push_back(&request);
        return;
      }
    }
    inner_->submit(request);
  }

  void hold(Predicate predicate) {
    const std::lock_guard lock(mutex_);
    predicate_ = std::move(predicate);
  }
  void hold(IoOp op) {
    hold([op](const IoRequest& request) { return request.op == op; });
  }
  size_t held_count() const {
    const std::lock_guard lock(mutex_);
    return held_.size();
  }
  void wait_for_held(size_t count) {
    wait_until([&] { return held_count() >= count; });
  }
  // What is held goes on, or fails with `error` untouched; the hold stays.
  void let_go(int error = 0) {
    std::vector<IoRequest*> held;
    {
      const std::lock_guard lock(mutex_);
      held.swap(held_);
    }
    for (IoRequest* request : held) {
      if (error == 0) {
        inner_->submit(*request);
      } else {
        request->complete(error);
      }
    }
  }
  void release_all() {
    hold(Predicate());
    let_go();
  }
  uint64_t count(IoOp op) const {
    const std::lock_guard lock(mutex_);
    return counts_[static_cast<size_t>(op)];
  }

 private:
  DeviceTraits traits_;
  const std::shared_ptr<BlockDevice> inner_;
  mutable std::mutex mutex_;
  Predicate predicate_;
  std::vector<IoRequest*> held_;
  uint64_t counts_[5] = {};
};

// Passes requests on from a thread of its own, in random order, one in
// `slow_one_in` of them late.
class ReorderingDevice final : public BlockDevice {
 public:
  ReorderingDevice(std::shared_ptr<BlockDevice> inner, uint64_t seed, uint64_t slow_one_in = 8)
      : inner_(std::move(inner)),
        slow_one_in_(slow_one_in),
        random_(seed),
        thread_([this] { run(); }) {}
  ~ReorderingDevice() override {
    {
      const std::lock_guard lock(mutex_);
      is_ending_ = true;
      work_.notify_all();
    }
    thread_.join();
  }

  uint64_t size_bytes() const noexcept override { return inner_->size_bytes(); }
  const DeviceTraits& traits() const noexcept override { return inner_->traits(); }
  void submit(IoRequest& request) noexcept override {
    const std::lock_guard lock(mutex_);
    queue_.push_back(&request);
    work_.notify_all();
  }

 private:
  void run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      work_.wait(lock, [this] { return is_ending_ || !queue_.empty(); });
      if (queue_.empty()) return;
      std::swap(queue_[random_() % queue_.size()], queue_.back());
      IoRequest* const request = queue_.back();
      queue_.pop_back();
      const bool dawdles = random_() % slow_one_in_ == 0;
      lock.unlock();
      if (dawdles) std::this_thread::sleep_for(std::chrono::microseconds(100));
      inner_->submit(*request);
      lock.lock();
    }
  }

  const std::shared_ptr<BlockDevice> inner_;
  const uint64_t slow_one_in_;
  std::mutex mutex_;
  std::condition_variable work_;
  std::vector<IoRequest*> queue_;
  std::mt19937_64 random_;
  bool is_ending_ = false;
  std::thread thread_;
};

// A tracked disk on a bitmap file of its own.
struct Disk {
  std::shared_ptr<BlockDevice> backing;
  std::shared_ptr<DirtyBitmap> bitmap;
  std::shared_ptr<TrackedDevice> device;
};

inline Disk make_disk(const ScratchDirectory& scratch, std::shared_ptr<BlockDevice> backing,
                      uint32_t granularity_bytes = 0) {
  static std::atomic<int> count{0};
  DirtyBitmap::Parameters parameters;
  parameters.disk = Uuid::random();
  parameters.disk_size_bytes = backing->size_bytes();
  parameters.granularity_bytes = granularity_bytes;
  auto bitmap =
      DirtyBitmap::create(scratch.path() + "/" + std::to_string(++count) + ".bitmap", parameters);
  REQUIRE_MESSAGE(bitmap.is_ok(), bitmap.status().message());
  Disk disk;
  disk.backing = backing;
  disk.bitmap = std::move(bitmap).value();
  disk.device = std::make_shared<TrackedDevice>(backing, disk.bitmap);
  return disk;
}

inline uint32_t add_target(TrackedDevice& device, const Uuid& id = Uuid::random()) {
  const auto slot = device.add_target(id);
  REQUIRE_MESSAGE(slot.is_ok(), slot.status().message());
  return slot.value();
}

inline Result<CheckpointOutcome> try_checkpoint(
    const std::shared_ptr<TrackedDevice>& device, uint32_t slot, const CaptureLimits& limits = {},
    std::chrono::milliseconds drain_limit = std::chrono::seconds(30)) {
  const CheckpointMember member{device, slot, limits};
  CheckpointOptions options;
  options.drain_limit = drain_limit;
  return take_checkpoint({&member, 1}, options);
}

inline std::shared_ptr<Capture> checkpoint(const std::shared_ptr<TrackedDevice>& device,
                                           uint32_t slot, const CaptureLimits& limits = {}) {
  const auto outcome = try_checkpoint(device, slot, limits);
  REQUIRE_MESSAGE(outcome.is_ok(), outcome.status().message());
  return outcome.value().captures.at(0);
}

inline void write_blocks(BlockDevice& device, uint64_t first, uint64_t count, int value) {
  REQUIRE(write_sync(device, first * kBlock, filled(count * kBlock, value)).is_ok());
}

inline Bytes read_capture(Capture& capture, uint64_t offset_bytes, uint64_t length_bytes) {
  Bytes content(length_bytes);
  const Status status = capture.read(offset_bytes, content);
  REQUIRE_MESSAGE(status.is_ok(), status.message());
  return content;
}

inline ErrorCode read_code(Capture& capture, uint64_t offset_bytes, uint64_t length_bytes) {
  Bytes content(length_bytes);
  return capture.read(offset_bytes, content).code();
}

// The first blocks of all extents and their lengths, in blocks: "1+2 7+1".
inline std::string extents_of(const Capture& capture) {
  std::string text;
  for (uint64_t from = 0; const auto extent = capture.next_extent(from, UINT64_MAX);) {
    if (!text.empty()) text += ' ';
    text += std::to_string(extent->offset_bytes / kBlock) + "+" +
            std::to_string((extent->length_bytes + kBlock - 1) / kBlock);
    from = extent->offset_bytes + extent->length_bytes;
  }
  return text;
}

}  // namespace tidemark::tracking_test
