// Growing a tracked disk under a running guest.
#include "common/failpoint.h"
#include "tracking/tracked_device_impl.h"

namespace tidemark {

namespace {

// The pause that writes are asked for: that of a checkpoint at first, longer when
// the storage does not get done in time.
constexpr std::chrono::milliseconds kFirstDrainLimit{50};
constexpr std::chrono::milliseconds kLastDrainLimit{800};

Status refuse(ErrorCode code, const std::string& reason) {
  return {code, "Cannot resize the tracked disk: because " + reason};
}

}  // namespace

Status TrackedDevice::Impl::resize(uint64_t size_bytes) {
  const MutexLock lock(maps_mutex_);
  const uint64_t present_bytes = this->size_bytes();
  if (size_bytes < present_bytes) {
    return refuse(ErrorCode::kInvalidArgument, "it has " + std::to_string(present_bytes) +
                                                   " bytes. Shrink it where fewer are meant.");
  }
  // What is frozen refers to the maps as they are.
  if (captures_.has_occupied()) {
    return refuse(ErrorCode::kInUse, "a checkpoint of it is open. Try again when that has ended.");
  }
  if (size_bytes > backing_->size_bytes()) {
    canary_.note_change();
    Status status = backing_->resize(size_bytes);
    canary_.note_change();
    if (!status.is_ok()) return status;
    failpoint("resize.backing");
  }
  if (size_bytes > bitmap_->disk_size_bytes()) {
    if (Status status = grow_bitmap(size_bytes); !status.is_ok()) return status;
  }
  size_bytes_.store(size_bytes, std::memory_order_release);
  return Status::ok();
}

Status TrackedDevice::Impl::grow_bitmap(uint64_t size_bytes) {
  if (Status status = bitmap_->merge_closed(); !status.is_ok()) return status;
  if (Status status = bitmap_->begin_growth(size_bytes); !status.is_ok()) return status;
  // Writes that came before mark the old maps only; those after it mark both.
  if (drain_patiently()) return bitmap_->finish_growth();
  bitmap_->give_up_growth();
  return refuse(ErrorCode::kTimedOut, "writes in flight did not end in time. Try again.");
}

bool TrackedDevice::Impl::drain_patiently() {
  for (auto limit = kFirstDrainLimit; limit <= kLastDrainLimit; limit *= 2) {
    if (drain_once(limit)) return true;
  }
  return false;
}

}  // namespace tidemark
