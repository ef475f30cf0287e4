#include "tracking/tracked_device.h"

#include "tracking/allocated_extents.h"
#include "tracking/dirty_extents.h"
#include "tracking/target_id.h"
#include "tracking/tracked_device_impl.h"

namespace tidemark {

namespace {

constexpr std::string_view kDirtyPrefix = "qemu:dirty-bitmap:";
constexpr std::string_view kLiveName = "live";
constexpr std::chrono::milliseconds kRemovalDrainLimit{50};

Status capture_is_open(const char* what) {
  return {ErrorCode::kInUse, std::string("Cannot ") + what +
                                 ": because the target's capture is open. Close it first."};
}

}  // namespace

TrackedDevice::TrackedDevice(std::shared_ptr<BlockDevice> backing,
                             std::shared_ptr<DirtyBitmap> bitmap,
                             std::chrono::milliseconds quiet_interval)
    : impl_(std::make_unique<Impl>(std::move(backing), std::move(bitmap), quiet_interval)) {}

TrackedDevice::~TrackedDevice() = default;

uint64_t TrackedDevice::size_bytes() const noexcept { return impl_->size_bytes(); }

const DeviceTraits& TrackedDevice::traits() const noexcept { return impl_->backing().traits(); }

Status TrackedDevice::resize(uint64_t size_bytes) { return impl_->resize(size_bytes); }

Status TrackedDevice::lock_image(ImageLockMode mode) { return impl_->backing().lock_image(mode); }

void TrackedDevice::submit(IoRequest& request) noexcept { impl_->submit(request); }

uint64_t TrackedDevice::loss_count() const noexcept { return impl_->backing().loss_count(); }

void TrackedDevice::give_up() noexcept { impl_->backing().give_up(); }

const DirtyBitmap& TrackedDevice::bitmap() const noexcept { return impl_->bitmap(); }

BlockDevice& TrackedDevice::backing() noexcept { return impl_->backing(); }

std::vector<std::string> TrackedDevice::extent_contexts() const {
  std::vector<std::string> contexts = impl_->backing().extent_contexts();
  contexts.push_back(std::string(kDirtyPrefix) + std::string(kLiveName));
  for (const DirtyBitmap::Target& target : impl_->targets()) {
    contexts.push_back(std::string(kDirtyPrefix) + target.id.to_string());
  }
  return contexts;
}

std::string TrackedDevice::resolve_context(std::string_view name) const {
  const std::string known = BlockDevice::resolve_context(name);
  if (!known.empty() || !name.starts_with(kDirtyPrefix)) return known;
  const std::string id = target_id_of(name.substr(kDirtyPrefix.size())).to_string();
  return BlockDevice::resolve_context(std::string(kDirtyPrefix) + id);
}

Status TrackedDevice::query_extents(std::string_view context, uint64_t offset_bytes,
                                    uint64_t length_bytes, size_t max_extents,
                                    std::vector<DeviceExtent>& extents) {
  if (context.substr(0, kDirtyPrefix.size()) != kDirtyPrefix) {
    return impl_->backing().query_extents(context, offset_bytes, length_bytes, max_extents,
                                          extents);
  }
  const std::string_view name = context.substr(kDirtyPrefix.size());
  if (name == kLiveName) {
    const MapId maps[] = {MapId::live(), MapId::closed()};
    append_dirty_extents(impl_->bitmap(), maps, {offset_bytes, length_bytes}, max_extents, extents);
    return Status::ok();
  }
  if (impl_->append_target_extents(name, {offset_bytes, length_bytes}, max_extents, extents)) {
    return Status::ok();
  }
  return {ErrorCode::kNotFound, "Cannot query " + std::string(context) +
                                    ": because there is no such target. List the contexts."};
}

// Under the maps' lock, so that no checkpoint moves what is written meanwhile out
// of the live map before the target is there to get it.
Result<uint32_t> TrackedDevice::add_target(const Uuid& id, TargetStart start) {
  const MutexLock lock(impl_->maps_mutex());
  std::vector<ByteExtent> pending;
  if (start == TargetStart::kAll) pending.push_back({0, size_bytes()});
  if (start == TargetStart::kAllocated) {
    Result<std::vector<ByteExtent>> allocated = allocated_extents(backing());
    if (!allocated.is_ok()) return allocated.status();
    pending = std::move(allocated).value();
  }
  const bool is_suspect = start == TargetStart::kSuspect;
  Result<uint32_t> slot = impl_->bitmap().add_target(
      id, pending, is_suspect ? static_cast<SuspicionCauses>(SuspicionCause::kMapLost) : 0);
  impl_->refresh_targets();
  return slot;
}

Status TrackedDevice::remove_target(uint32_t slot) {
  const MutexLock lock(impl_->maps_mutex());
  if (impl_->captures().is_occupied(slot)) return capture_is_open("remove the target");
  if (impl_->captures().has_retired(slot) && !impl_->drain_once(kRemovalDrainLimit)) {
    return {ErrorCode::kTimedOut,
            "Cannot remove the target: because writes in flight did not end in time. Try again."};
  }
  impl_->hide_target(slot);
  Status status = impl_->bitmap().remove_target(slot);
  impl_->refresh_targets();
  return status;
}

Status TrackedDevice::commit(uint32_t slot) {
  const MutexLock lock(impl_->maps_mutex());
  if (impl_->captures().is_occupied(slot)) return capture_is_open("commit the changes");
  DirtyBitmap& bitmap = impl_->bitmap();
  if (Status status = bitmap.commit(slot); !status.is_ok()) return status;
  return bitmap.dirty_block_count(MapId::suspect(slot)) == 0 ? bitmap.end_suspicion(slot)
                                                             : Status::ok();
}

Status TrackedDevice::give_back(uint32_t slot) {
  const MutexLock lock(impl_->maps_mutex());
  if (impl_->captures().is_occupied(slot)) return capture_is_open("give the changes back");
  return impl_->bitmap().give_back(slot);
}

Status TrackedDevice::stage(uint32_t slot) {
  const MutexLock lock(impl_->maps_mutex());
  if (impl_->captures().is_occupied(slot)) return capture_is_open("stage the changes");
  return impl_->bitmap().stage(slot);
}

Status TrackedDevice::unstage(uint32_t slot) {
  const MutexLock lock(impl_->maps_mutex());
  return impl_->bitmap().unstage(slot);
}

Status TrackedDevice::mark_pending(uint32_t slot, std::span<const ByteExtent> extents) {
  const MutexLock lock(impl_->maps_mutex());
  for (const ByteExtent& extent : extents) {
    impl_->bitmap().mark_pending(slot, extent.offset_bytes, extent.length_bytes);
  }
  return impl_->bitmap().sync_pending(slot);
}

Status TrackedDevice::mark_pending(uint32_t slot, uint64_t offset_bytes, uint64_t length_bytes) {
  const ByteExtent extent{offset_bytes, length_bytes};
  return mark_pending(slot, {&extent, 1});
}

Status TrackedDevice::settle() { return impl_->quiet_down().settle(); }

IntentStatus TrackedDevice::intent_status() const { return impl_->bitmap().intents().status(); }

void TrackedDevice::clear_pending(uint32_t slot, uint64_t offset_bytes, uint64_t length_bytes) {
  const MutexLock lock(impl_->maps_mutex());
  impl_->bitmap().clear_pending(slot, offset_bytes, length_bytes);
}

}  // namespace tidemark
