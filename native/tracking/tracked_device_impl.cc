#include "tracking/tracked_device_impl.h"

#include <cassert>
#include <cerrno>

#include "common/failpoint.h"
#include "tracking/dirty_extents.h"
#include "tracking/intended_write.h"
#include "tracking/parked_write.h"

namespace tidemark {

TrackedDevice::Impl::Impl(std::shared_ptr<BlockDevice> backing, std::shared_ptr<DirtyBitmap> bitmap,
                          std::chrono::milliseconds quiet_interval)
    : backing_(std::move(backing)),
      bitmap_(std::move(bitmap)),
      size_bytes_(backing_->size_bytes()),
      passes_trim_on_(backing_->traits().trim_reads_zero),
      canary_(*backing_, gate_),
      quiet_down_(*this) {
  assert(size_bytes_ == bitmap_->disk_size_bytes());
  refresh_targets();
  if (quiet_interval.count() == 0) return;
  if (bitmap_->intents().durability() == Durability::kPowerSafe) bitmap_->intents().start();
  quiet_down_.start(quiet_interval);
}

void TrackedDevice::Impl::submit(IoRequest& request) noexcept {
  if (request.is_write_class()) {
    submit_write(request);
  } else if (request.op == IoOp::kFlush) {
    submit_flush(request);
  } else if (request.end_bytes() > size_bytes()) {
    request.complete(EINVAL);  // past an end that was cut off
  } else {
    backing_->submit(request);
  }
}

void TrackedDevice::Impl::submit_write(IoRequest& request) noexcept {
  if (!is_inside(request)) {
    request.complete(EINVAL);
    return;
  }
  uint64_t ticket = 0;
  if (!gate_.enter(request, ticket)) return;  // parked: the opener submits it again
  IntentLog& intents = bitmap_->intents();
  if (!intents.is_marked(request.offset_bytes, request.length_bytes)) [[unlikely]] {
    gate_.leave(ticket);
    IntendedWrite::start(request, *this, intents);  // submits it again
    return;
  }
  request.push(on_written, this, ticket);
  bitmap_->mark(request.offset_bytes, request.length_bytes);
  failpoint("mark");
  if (request.op == IoOp::kTrim && !passes_trim_on_) {
    request.complete(0);
    return;
  }
  if (captures_.has_any() && captures_.must_save(request.offset_bytes, request.end_bytes())) {
    ParkedWrite::start(request, *this);
    return;
  }
  pass_on(request);
}

void TrackedDevice::Impl::submit_flush(IoRequest& request) noexcept {
  uint64_t ticket = 0;
  [[maybe_unused]] const bool is_inside = flushes_.enter(request, ticket);
  assert(is_inside);
  request.push(on_flushed, this, ticket);
  backing_->submit(request);
}

void TrackedDevice::Impl::on_flushed(IoRequest& request, void* context, uint64_t ticket,
                                     int error) noexcept {
  auto* const self = static_cast<Impl*>(context);
  if (error != 0) self->quiet_down_.flush_failed();
  if (error == 0) error = self->quiet_down_.take_untold_error();
  self->flushes_.leave(ticket);
  request.complete(error);
}

void TrackedDevice::Impl::pass_on(IoRequest& request) noexcept {
  failpoint("write");
  canary_.note_write(request.offset_bytes);
  backing_->submit(request);
}

// Leaves the gate before the answer: once the owner has it, this may be gone.
void TrackedDevice::Impl::on_written(IoRequest& request, void* context, uint64_t ticket,
                                     int error) noexcept {
  auto* const self = static_cast<Impl*>(context);
  if (error != 0 && (request.flags & kIoFua) != 0) self->quiet_down_.flush_failed();
  self->gate_.leave(ticket);
  request.complete(error);
}

// A mark outside the disk would be a write outside the map.
bool TrackedDevice::Impl::is_inside(const IoRequest& request) const noexcept {
  const uint64_t size = size_bytes();
  return request.length_bytes > 0 && request.offset_bytes < size &&
         request.length_bytes <= size - request.offset_bytes;
}

std::vector<DirtyBitmap::Target> TrackedDevice::Impl::targets() const {
  const MutexLock lock(targets_mutex_);
  return targets_;
}

bool TrackedDevice::Impl::drain_once(std::chrono::milliseconds limit) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  gate_.close();
  const bool is_drained = gate_.wait_drained(deadline);
  std::vector<std::shared_ptr<FrozenBlocks>> retired;  // destroyed when the gate is open
  if (is_drained) retired = captures_.take_retired();
  submit_parked(gate_.open());
  return is_drained;
}

void TrackedDevice::Impl::submit_parked(IoRequest* first) noexcept {
  while (first != nullptr) {
    IoRequest& request = *first;
    first = request.next;
    submit(request);
  }
}

void TrackedDevice::Impl::hide_target(uint32_t slot) {
  const MutexLock lock(targets_mutex_);
  std::erase_if(targets_, [slot](const auto& target) { return target.slot == slot; });
}

bool TrackedDevice::Impl::append_target_extents(std::string_view id, ByteExtent range,
                                                size_t max_extents,
                                                std::vector<DeviceExtent>& extents) {
  const MutexLock lock(targets_mutex_);
  for (const DirtyBitmap::Target& target : targets_) {
    if (target.id.to_string() != id) continue;
    // In the direction in which a checkpoint moves bits, so that none is missed.
    const MapId maps[] = {MapId::suspect(target.slot), MapId::live(), MapId::closed(),
                          MapId::pending(target.slot)};
    append_dirty_extents(*bitmap_, maps, range, max_extents, extents);
    return true;
  }
  return false;
}

void TrackedDevice::Impl::refresh_targets() {
  std::vector<DirtyBitmap::Target> targets = bitmap_->targets();
  const MutexLock lock(targets_mutex_);
  targets_.swap(targets);
}

}  // namespace tidemark
