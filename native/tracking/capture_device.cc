#include "tracking/capture_device.h"

#include <algorithm>
#include <cerrno>
#include <new>
#include <string>
#include <utility>

#include "device/engine_threads.h"
#include "tracking/target_id.h"

namespace tidemark {

namespace {

constexpr std::string_view kDirtyPrefix = "qemu:dirty-bitmap:";
constexpr std::string_view kAllocation = "base:allocation";

struct ReadTask : IoTask {
  Capture* capture = nullptr;
  IoRequest* request = nullptr;
};

int errno_of(const Status& status) noexcept {
  if (status.is_ok()) return 0;
  if (status.sys_errno() != 0) return status.sys_errno();
  if (status.code() == ErrorCode::kInvalidArgument) return EINVAL;
  return status.code() == ErrorCode::kClosed ? ESHUTDOWN : EIO;
}

int read_capture(IoTask& task) noexcept {
  auto& read = static_cast<ReadTask&>(task);
  return errno_of(read.capture->read(read.request->offset_bytes,
                                     {read.request->data, read.request->length_bytes}));
}

// The device may be gone once the request is complete.
void on_read(IoTask& task, int error) noexcept {
  const std::unique_ptr<ReadTask> read(static_cast<ReadTask*>(&task));
  read->request->complete(error);
}

class CaptureDevice final : public BlockDevice {
 public:
  CaptureDevice(std::shared_ptr<Capture> capture, std::string_view name)
      : capture_(std::move(capture)),
        target_(target_id_of(name)),
        dirty_context_(std::string(kDirtyPrefix) + std::string(name)) {
    traits_.read_only = true;
    traits_.preferred_block_bytes = std::max(4096U, capture_->granularity_bytes());
    traits_.engine = "capture";
  }

  uint64_t size_bytes() const noexcept override { return capture_->disk_size_bytes(); }
  const DeviceTraits& traits() const noexcept override { return traits_; }

  void submit(IoRequest& request) noexcept override {
    if (request.is_write_class()) {
      request.complete(EROFS);
    } else if (request.op == IoOp::kRead) {
      read(request);
    } else {
      request.complete(0);
    }
  }

  std::vector<std::string> extent_contexts() const override {
    return {std::string(kAllocation), dirty_context_};
  }

  std::string resolve_context(std::string_view name) const override {
    const std::string known = BlockDevice::resolve_context(name);
    if (!known.empty() || !name.starts_with(kDirtyPrefix)) return known;
    const bool is_ours = target_id_of(name.substr(kDirtyPrefix.size())) == target_;
    return is_ours ? dirty_context_ : std::string();
  }

  Status query_extents(std::string_view context, uint64_t offset_bytes, uint64_t length_bytes,
                       size_t max_extents, std::vector<DeviceExtent>& extents) override {
    if (context == kAllocation) {
      return capture_->query_allocation(offset_bytes, length_bytes, max_extents, extents);
    }
    if (context != dirty_context_) {
      return {ErrorCode::kNotFound, "Cannot query " + std::string(context) +
                                        ": because there is no such context. List them."};
    }
    append_dirty(offset_bytes, offset_bytes + length_bytes, max_extents, extents);
    if (capture_->is_open()) return Status::ok();
    // What a capture lists once it is closed would read as "nothing changed".
    return {ErrorCode::kClosed, "Cannot query the capture: because it is closed. Take another."};
  }

 private:
  void read(IoRequest& request) noexcept {
    auto* const task = new (std::nothrow) ReadTask;
    if (task == nullptr) {
      request.complete(ENOMEM);
      return;
    }
    task->kind = IoTask::Kind::kBlockingCall;
    task->capture = capture_.get();
    task->request = &request;
    task->call = read_capture;
    task->done = on_read;
    engine_->submit(*task);
  }

  void append_dirty(uint64_t from, uint64_t end, size_t max_extents,
                    std::vector<DeviceExtent>& extents) const {
    const size_t end_count = extents.size() + max_extents;
    while (from < end && extents.size() < end_count) {
      const auto dirty = capture_->next_extent(from, end - from);
      const uint64_t start = dirty ? std::min(dirty->offset_bytes, end) : end;
      if (start > from) {
        extents.push_back({start - from, 0});
        from = start;
        continue;
      }
      const uint64_t stop = std::min(dirty->offset_bytes + dirty->length_bytes, end);
      extents.push_back({stop - from, kExtentDirty});
      from = stop;
    }
  }

  const std::shared_ptr<Capture> capture_;
  const Uuid target_;
  const std::string dirty_context_;
  DeviceTraits traits_;
  const std::shared_ptr<IoEngine> engine_ = make_threads_engine();
};

}  // namespace

std::shared_ptr<BlockDevice> make_capture_device(std::shared_ptr<Capture> capture,
                                                 std::string_view name) {
  return std::make_shared<CaptureDevice>(std::move(capture), name);
}

}  // namespace tidemark
