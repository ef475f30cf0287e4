// ScriptedDevice: a small disk in memory that does as the test says: holds
// requests and completes them in any order and on any thread, fails them,
// reports extents. It checks on its own that only valid requests arrive.
#pragma once

#include <sys/mman.h>

#include <atomic>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "common/mutex.h"
#include "device/block_device.h"

namespace nbd_test {

using tidemark::DeviceExtent;
using tidemark::DeviceTraits;
using tidemark::IoOp;
using tidemark::IoRequest;
using tidemark::Mutex;
using tidemark::MutexLock;
using tidemark::Status;

struct SeenRequest {
  IoOp op;
  uint32_t flags;
  uint64_t offset_bytes;
  uint64_t length_bytes;
  bool operator==(const SeenRequest&) const = default;
};

class ScriptedDevice : public tidemark::BlockDevice {
 public:
  explicit ScriptedDevice(uint64_t size_bytes) : memory_(size_bytes) {
    traits_.engine = "scripted";
    traits_.fast_zero = true;
  }
  ~ScriptedDevice() override { CHECK(held_.empty()); }

  // Before the device is served.
  DeviceTraits& edit_traits() { return traits_; }
  // At any time, for a context that is there.
  void set_extents(const std::string& context, std::vector<DeviceExtent> extents) {
    MutexLock lock(mutex_);
    extents_[context] = std::move(extents);
  }

  uint64_t size_bytes() const noexcept override { return memory_.size(); }
  const DeviceTraits& traits() const noexcept override { return traits_; }

  void submit(IoRequest& request) noexcept override {
    is_misused_ = is_misused_ || !is_valid(request);
    {
      MutexLock lock(mutex_);
      seen_.push_back({request.op, request.flags, request.offset_bytes, request.length_bytes});
      if (is_holding_) {
        held_.push_back(&request);
        changed_.notify_all();
        return;
      }
    }
    complete(request);
  }

  std::vector<std::string> extent_contexts() const override {
    std::vector<std::string> names;
    for (const auto& [name, extents] : extents_) names.push_back(name);
    if (names.empty()) names.push_back("base:allocation");
    return names;
  }
  // The scripted extents, whatever was asked: the server has to cope.
  Status query_extents(std::string_view context, uint64_t offset_bytes, uint64_t length_bytes,
                       size_t max_extents, std::vector<DeviceExtent>& extents) override {
    extent_query_count_.fetch_add(1);
    MutexLock lock(mutex_);
    lock.wait(changed_, [this]() NO_THREAD_SAFETY_ANALYSIS { return !is_holding_extents_; });
    const auto found = extents_.find(std::string(context));
    if (found == extents_.end()) {
      return BlockDevice::query_extents(context, offset_bytes, length_bytes, max_extents, extents);
    }
    for (const DeviceExtent& extent : found->second) extents.push_back(extent);
    if (extents.size() > max_extents) extents.resize(max_extents);
    return fails_extents_ ? Status(tidemark::ErrorCode::kIo, "scripted") : Status::ok();
  }

  int extent_query_count() const { return extent_query_count_; }
  void fail_extents() { fails_extents_ = true; }
  void fail_all(int error) { error_ = error; }
  void hold(bool is_holding) {
    MutexLock lock(mutex_);
    is_holding_ = is_holding;
  }
  // Extent queries wait, too.
  void hold_extents(bool is_holding) {
    MutexLock lock(mutex_);
    is_holding_extents_ = is_holding;
    changed_.notify_all();
  }
  void wait_for_held(size_t count) {
    MutexLock lock(mutex_);
    lock.wait(changed_,
              [this, count]() NO_THREAD_SAFETY_ANALYSIS { return held_.size() >= count; });
  }
  // Completes the held request at `index` on the calling thread.
  void release(size_t index) {
    IoRequest* request;
    {
      MutexLock lock(mutex_);
      request = held_.at(index);
      held_.erase(held_.begin() + static_cast<ptrdiff_t>(index));
    }
    complete(*request);
  }
  size_t held_count() {
    MutexLock lock(mutex_);
    return held_.size();
  }
  void release_all() {
    hold(false);
    while (held_count() > 0) release(0);
  }

  std::vector<SeenRequest> take_seen() {
    MutexLock lock(mutex_);
    return std::exchange(seen_, {});
  }
  std::string content(size_t offset, size_t length) const {
    return std::string(memory_.begin() + static_cast<ptrdiff_t>(offset),
                       memory_.begin() + static_cast<ptrdiff_t>(offset + length));
  }
  bool is_misused() const { return is_misused_; }

 private:
  bool is_valid(const IoRequest& request) const {
    if (request.op == IoOp::kFlush) return request.length_bytes == 0;
    const uint64_t mask = traits_.minimum_block_bytes - 1;
    const bool has_data = request.op == IoOp::kRead || request.op == IoOp::kWrite;
    return request.length_bytes > 0 && request.offset_bytes <= memory_.size() &&
           request.length_bytes <= memory_.size() - request.offset_bytes &&
           ((request.offset_bytes | request.length_bytes) & mask) == 0 &&
           (!has_data || request.data != nullptr) &&
           !(traits_.read_only && request.is_write_class());
  }

  void complete(IoRequest& request) {
    const int error = error_;
    if (error == 0 && request.length_bytes > 0) {
      char* at = memory_.data() + request.offset_bytes;
      if (request.op == IoOp::kRead) std::memcpy(request.data, at, request.length_bytes);
      if (request.op == IoOp::kWrite) std::memcpy(at, request.data, request.length_bytes);
      if (request.op == IoOp::kWriteZeroes) std::memset(at, 0, request.length_bytes);
    }
    request.complete(error);
  }

  std::vector<char> memory_;  // tests keep concurrent requests apart
  DeviceTraits traits_;
  std::map<std::string, std::vector<DeviceExtent>> extents_;
  std::atomic<int> error_{0};
  std::atomic<bool> fails_extents_{false};
  std::atomic<int> extent_query_count_{0};
  std::atomic<bool> is_misused_{false};

  Mutex mutex_;
  std::condition_variable changed_;
  bool is_holding_ GUARDED_BY(mutex_) = false;
  bool is_holding_extents_ GUARDED_BY(mutex_) = false;
  std::vector<IoRequest*> held_ GUARDED_BY(mutex_);
  std::vector<SeenRequest> seen_ GUARDED_BY(mutex_);
};

}  // namespace nbd_test
