// Cutting a tracked disk's end off under a running guest.
//
// The bitmap first, then the backing: killed in between, the next open finds a backing
// that is larger than its bitmap, takes it for grown, and all past the bitmap's end travels.
// The other way round it would look as a disk that was cut behind our back.
#include "common/failpoint.h"
#include "device/shrinkable_device.h"
#include "tracking/tracked_device_impl.h"

namespace tidemark {

namespace {

Status refuse(ErrorCode code, const std::string& reason) {
  return {code, "Cannot shrink the tracked disk: because " + reason};
}

}  // namespace

Status TrackedDevice::shrink(uint64_t size_bytes) { return impl_->shrink(size_bytes); }

Status TrackedDevice::Impl::shrink(uint64_t size_bytes) {
  const MutexLock lock(maps_mutex_);
  const uint64_t present_bytes = this->size_bytes();
  auto* const backing = dynamic_cast<ShrinkableDevice*>(backing_.get());
  if (backing == nullptr) {
    return refuse(ErrorCode::kUnsupported,
                  "what holds it cannot be cut from here. Shrink it where it is, and have it "
                  "copied anew.");
  }
  if (size_bytes == 0 || size_bytes >= present_bytes) {
    return refuse(ErrorCode::kInvalidArgument,
                  "it has " + std::to_string(present_bytes) + " bytes. Name fewer.");
  }
  if (size_bytes % backing_->traits().minimum_block_bytes != 0 || backing_->traits().read_only) {
    return refuse(ErrorCode::kInvalidArgument,
                  "its storage cannot have that size. Take a multiple "
                  "of its block size.");
  }
  if (captures_.has_occupied()) {
    return refuse(ErrorCode::kInUse, "a checkpoint of it is open. Try again when that has ended.");
  }
  if (Status status = shrink_bitmap(size_bytes); !status.is_ok()) return status;
  failpoint("shrink.bitmap");
  canary_.note_change();
  Status status = backing->shrink(size_bytes);
  canary_.note_change();
  failpoint("shrink.backing");
  if (status.is_ok()) return status;
  // All of it is there still, and counts as changed.
  if (Status regrown = grow_bitmap(present_bytes); !regrown.is_ok()) return regrown;
  size_bytes_.store(present_bytes, std::memory_order_release);
  return status;
}

// Requests past the new end are refused from the beginning; those under way have ended
// when the smaller maps take over.
Status TrackedDevice::Impl::shrink_bitmap(uint64_t size_bytes) {
  const uint64_t present_bytes = this->size_bytes();
  if (Status status = bitmap_->merge_closed(); !status.is_ok()) return status;
  if (Status status = bitmap_->begin_shrink(size_bytes); !status.is_ok()) return status;
  size_bytes_.store(size_bytes, std::memory_order_release);
  Status status;
  if (drain_patiently()) {
    status = bitmap_->finish_growth();
  } else {
    bitmap_->give_up_growth();
    status = refuse(ErrorCode::kTimedOut, "writes in flight did not end in time. Try again.");
  }
  if (!status.is_ok()) size_bytes_.store(present_bytes, std::memory_order_release);
  return status;
}

}  // namespace tidemark
