#pragma once

#include "addon/device_object.h"
#include "tracking/tracked_device.h"

namespace tidemark {

class TrackedDeviceObject final : public DeviceObjectBase<TrackedDeviceObject, TrackedDevice> {
 public:
  static Napi::Function define(Napi::Env env);
  using DeviceObjectBase::DeviceObjectBase;

  // For checkpoint(): keeps close() waiting until the checkpoint has ended.
  Lease<TrackedDevice> lease(Napi::Env env) const { return handle_.lease(env); }
  void set_bitmap(std::shared_ptr<DirtyBitmap> bitmap) { bitmap_ = std::move(bitmap); }
  std::shared_ptr<TrackedDevice> share(Napi::Env env) const { return handle_.share(env); }

 private:
  friend class DeviceObjectBase<TrackedDeviceObject, TrackedDevice>;

  Napi::Value disk_id(const Napi::CallbackInfo& info);
  Napi::Value granularity_bytes(const Napi::CallbackInfo& info);
  Napi::Value opened_clean(const Napi::CallbackInfo& info);
  Napi::Value add_target(const Napi::CallbackInfo& info);
  Napi::Value remove_target(const Napi::CallbackInfo& info);
  Napi::Value targets(const Napi::CallbackInfo& info);
  Napi::Value live_blocks(const Napi::CallbackInfo& info);
  Napi::Value advance_map_sequence(const Napi::CallbackInfo& info);
  Napi::Value shrink(const Napi::CallbackInfo& info);
  Napi::Value intent_status(const Napi::CallbackInfo& info);
  Napi::Value mark_pending(const Napi::CallbackInfo& info);
  Napi::Value mark_pending_extents(const Napi::CallbackInfo& info);
  Napi::Value mark_allocated(const Napi::CallbackInfo& info);
  Napi::Value begin_comparison(const Napi::CallbackInfo& info);
  Napi::Value settle_comparison(const Napi::CallbackInfo& info);
  Napi::Value mark_all_suspect(const Napi::CallbackInfo& info);
  Napi::Value add_marks(const Napi::CallbackInfo& info);
  Napi::Value dirty_extents(const Napi::CallbackInfo& info);
  Napi::Value commit(const Napi::CallbackInfo& info);
  Napi::Value give_back(const Napi::CallbackInfo& info);
  Napi::Value stage(const Napi::CallbackInfo& info);
  Napi::Value unstage(const Napi::CallbackInfo& info);
  // Syncs and closes the bitmap as clean. IN_USE while an NBD server still exports the disk.
  Napi::Value close(const Napi::CallbackInfo& info);

  Napi::Value move_bits(const Napi::CallbackInfo& info, Status (TrackedDevice::*move)(uint32_t));
  uint32_t slot_argument(const Napi::CallbackInfo& info, size_t index) const;

  std::shared_ptr<DirtyBitmap> bitmap_;  // the device's own, for its close()
};

// Module functions.
Napi::Value track_device_js(const Napi::CallbackInfo& info);

}  // namespace tidemark
