#include "addon/tracked_device_object.h"

#include <algorithm>

#include "tracking/allocated_extents.h"
#include "tracking/fingerprint.h"

namespace tidemark {

namespace {

MapId map_argument(const Napi::CallbackInfo& info, size_t index, uint32_t slot) {
  const std::string name = string_argument(info, index);
  if (name == "live") return MapId::live();
  if (name == "pending") return MapId::pending(slot);
  if (name == "inFlight") return MapId::in_flight(slot);
  if (name == "staged") return MapId::staged(slot);
  if (name == "suspect") return MapId::suspect(slot);
  throw to_js_error(info.Env(),
                    Status(ErrorCode::kInvalidArgument, "Cannot use " + name + ": no such map."));
}

// What the backing does not know to be zero must travel in a first copy.
Result<uint64_t> mark_what_is_allocated(TrackedDevice& device, uint32_t slot) {
  Result<std::vector<ByteExtent>> allocated = allocated_extents(device);
  if (!allocated.is_ok()) return allocated.status();
  Status status = device.mark_pending(slot, allocated.value());
  if (!status.is_ok()) return status;
  uint64_t marked_bytes = 0;
  for (const ByteExtent& extent : allocated.value()) marked_bytes += extent.length_bytes;
  return marked_bytes;
}

TargetStart start_argument(const Napi::CallbackInfo& info, size_t index) {
  const std::string name = string_argument(info, index);
  if (name == "nothing") return TargetStart::kNothing;
  if (name == "allocated") return TargetStart::kAllocated;
  if (name == "all") return TargetStart::kAll;
  if (name == "suspect") return TargetStart::kSuspect;
  throw to_js_error(info.Env(), Status(ErrorCode::kInvalidArgument,
                                       "Cannot use " + name + ": because it is no start."));
}

struct Tracked {
  std::shared_ptr<TrackedDevice> device;
  std::shared_ptr<DirtyBitmap> bitmap;
  SuspicionCauses causes = 0;  // found at the opening
};

constexpr const char* kPowerSafe = "power-safe";
constexpr const char* kProcessSafe = "process-safe";

Durability durability_argument(const Napi::CallbackInfo& info, size_t index) {
  const std::string name = string_argument(info, index);
  if (name == kPowerSafe) return Durability::kPowerSafe;
  if (name == kProcessSafe) return Durability::kProcessSafe;
  throw to_js_error(info.Env(), Status(ErrorCode::kInvalidArgument,
                                       "Cannot use " + name + ": because it is no durability."));
}

Result<Tracked> track(std::shared_ptr<BlockDevice> backing, const std::string& bitmap_path,
                      const Uuid& disk, uint32_t granularity_bytes, bool create,
                      Durability durability) {
  const uint64_t size_bytes = backing->size_bytes();
  auto bitmap =
      create ? DirtyBitmap::create(bitmap_path, {disk, size_bytes, granularity_bytes, durability})
             : DirtyBitmap::open(bitmap_path, disk, size_bytes, file_bitmap_storage(), durability);
  if (!bitmap.is_ok()) return bitmap.status();
  Tracked tracked;
  tracked.bitmap = std::move(bitmap).value();
  // A new bitmap's targets are yet to come: nothing of theirs can be suspect.
  const auto causes = settle_fingerprint(*backing, *tracked.bitmap);
  if (!causes.is_ok()) return causes.status();
  if (!create) tracked.causes = causes.value();
  tracked.device = std::make_shared<TrackedDevice>(std::move(backing), tracked.bitmap);
  return tracked;
}

Napi::Object to_js_target(Napi::Env env, const DirtyBitmap& bitmap,
                          const DirtyBitmap::Target& target) {
  auto count = [&](MapId map) {
    return Napi::Number::New(env, static_cast<double>(bitmap.dirty_block_count(map)));
  };
  Napi::Object object = Napi::Object::New(env);
  object.Set("id", target.id.to_string());
  object.Set("slot", target.slot);
  object.Set("pendingBlocks", count(MapId::pending(target.slot)));
  object.Set("inFlightBlocks", count(MapId::in_flight(target.slot)));
  object.Set("stagedBlocks", count(MapId::staged(target.slot)));
  object.Set("suspectBlocks", count(MapId::suspect(target.slot)));
  object.Set("suspicionCauses", bitmap.suspicion_causes(target.slot));
  return object;
}

}  // namespace

Napi::Function TrackedDeviceObject::define(Napi::Env env) {
  using Self = TrackedDeviceObject;
  auto properties = device_properties();
  properties.push_back(InstanceAccessor("diskId", &Self::disk_id, nullptr));
  properties.push_back(InstanceAccessor("granularityBytes", &Self::granularity_bytes, nullptr));
  properties.push_back(InstanceAccessor("openedClean", &Self::opened_clean, nullptr));
  properties.push_back(InstanceMethod("intentStatus", &Self::intent_status));
  properties.push_back(InstanceMethod("advanceMapSequence", &Self::advance_map_sequence));
  properties.push_back(InstanceMethod("shrink", &Self::shrink));
  properties.push_back(InstanceMethod("addTarget", &Self::add_target));
  properties.push_back(InstanceMethod("removeTarget", &Self::remove_target));
  properties.push_back(InstanceMethod("targets", &Self::targets));
  properties.push_back(InstanceMethod("liveBlocks", &Self::live_blocks));
  properties.push_back(InstanceMethod("markPending", &Self::mark_pending));
  properties.push_back(InstanceMethod("markPendingExtents", &Self::mark_pending_extents));
  properties.push_back(InstanceMethod("markAllocated", &Self::mark_allocated));
  properties.push_back(InstanceMethod("beginComparison", &Self::begin_comparison));
  properties.push_back(InstanceMethod("settleComparison", &Self::settle_comparison));
  properties.push_back(InstanceMethod("markAllSuspect", &Self::mark_all_suspect));
  properties.push_back(InstanceMethod("addMarks", &Self::add_marks));
  properties.push_back(InstanceMethod("dirtyExtents", &Self::dirty_extents));
  properties.push_back(InstanceMethod("commit", &Self::commit));
  properties.push_back(InstanceMethod("giveBack", &Self::give_back));
  properties.push_back(InstanceMethod("stage", &Self::stage));
  properties.push_back(InstanceMethod("unstage", &Self::unstage));
  properties.push_back(InstanceMethod("close", &Self::close));
  return DefineClass(env, "TrackedDevice", properties);
}

uint32_t TrackedDeviceObject::slot_argument(const Napi::CallbackInfo& info, size_t index) const {
  const uint32_t slot = uint32_argument(info, index);
  const auto targets = handle_.get(info.Env()).bitmap().targets();
  const bool known = std::any_of(targets.begin(), targets.end(),
                                 [slot](const auto& target) { return target.slot == slot; });
  if (!known) {
    throw to_js_error(info.Env(), Status(ErrorCode::kNotFound,
                                         "Cannot find target slot " + std::to_string(slot) + "."));
  }
  return slot;
}

Napi::Value TrackedDeviceObject::disk_id(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), handle_.get(info.Env()).bitmap().disk().to_string());
}

Napi::Value TrackedDeviceObject::granularity_bytes(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), handle_.get(info.Env()).bitmap().granularity_bytes());
}

Napi::Value TrackedDeviceObject::opened_clean(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), handle_.get(info.Env()).bitmap().opened_clean());
}

Napi::Value TrackedDeviceObject::advance_map_sequence(const Napi::CallbackInfo& info) {
  const uint64_t above = bytes_argument(info, 0);
  return AsyncTask<uint64_t>::run(
      info.Env(),
      [device = handle_.lease(info.Env()), above] { return device->advance_sequence(above); },
      [](Napi::Env env, uint64_t& sequence) -> Napi::Value {
        return Napi::Number::New(env, static_cast<double>(sequence));
      });
}

Napi::Value TrackedDeviceObject::intent_status(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const IntentStatus status = handle_.get(env).intent_status();
  const bool is_power_safe = status.durability == Durability::kPowerSafe;
  Napi::Object object = Napi::Object::New(env);
  object.Set("durability", is_power_safe ? kPowerSafe : kProcessSafe);
  object.Set("regionBytes", static_cast<double>(status.region_bytes));
  object.Set("regionCount", status.region_count);
  object.Set("markedRegions", status.marked_count);
  object.Set("syncCount", static_cast<double>(status.commit_count));
  object.Set("waitCount", static_cast<double>(status.waiter_count));
  object.Set("trouble", status.trouble);
  object.Set("mapSequence", static_cast<double>(handle_.get(env).bitmap().sequence()));
  return object;
}

Napi::Value TrackedDeviceObject::shrink(const Napi::CallbackInfo& info) {
  return run_status_task(
      info.Env(), [device = handle_.lease(info.Env()), size_bytes = bytes_argument(info, 0)] {
        return device->shrink(size_bytes);
      });
}

Napi::Value TrackedDeviceObject::add_target(const Napi::CallbackInfo& info) {
  const Uuid id = uuid_argument(info, 0);
  const TargetStart start = start_argument(info, 1);
  return AsyncTask<uint32_t>::run(
      info.Env(),
      [device = handle_.lease(info.Env()), id, start] { return device->add_target(id, start); },
      [](Napi::Env env, uint32_t& slot) -> Napi::Value { return Napi::Number::New(env, slot); });
}

Napi::Value TrackedDeviceObject::remove_target(const Napi::CallbackInfo& info) {
  return move_bits(info, &TrackedDevice::remove_target);
}

Napi::Value TrackedDeviceObject::targets(const Napi::CallbackInfo& info) {
  const DirtyBitmap& bitmap = handle_.get(info.Env()).bitmap();
  const auto targets = bitmap.targets();
  Napi::Array array = Napi::Array::New(info.Env(), targets.size());
  for (uint32_t i = 0; i < targets.size(); ++i) {
    array[i] = to_js_target(info.Env(), bitmap, targets[i]);
  }
  return array;
}

Napi::Value TrackedDeviceObject::live_blocks(const Napi::CallbackInfo& info) {
  const uint64_t count = handle_.get(info.Env()).bitmap().dirty_block_count(MapId::live());
  return Napi::Number::New(info.Env(), static_cast<double>(count));
}

Napi::Value TrackedDeviceObject::mark_pending(const Napi::CallbackInfo& info) {
  const uint64_t size_bytes = handle_.get(info.Env()).size_bytes();
  const uint32_t slot = slot_argument(info, 0);
  const uint64_t offset_bytes = std::min(bytes_argument(info, 1), size_bytes);
  const uint64_t length_bytes = std::min(bytes_argument(info, 2), size_bytes - offset_bytes);
  return run_status_task(info.Env(),
                         [device = handle_.lease(info.Env()), slot, offset_bytes, length_bytes] {
                           return device->mark_pending(slot, offset_bytes, length_bytes);
                         });
}

Napi::Value TrackedDeviceObject::mark_pending_extents(const Napi::CallbackInfo& info) {
  const uint32_t slot = slot_argument(info, 0);
  const auto extents = extents_argument(info, 1);
  return run_status_task(info.Env(), [device = handle_.lease(info.Env()), slot, extents] {
    return device->mark_pending(slot, extents);
  });
}

Napi::Value TrackedDeviceObject::mark_allocated(const Napi::CallbackInfo& info) {
  const uint32_t slot = slot_argument(info, 0);
  return AsyncTask<uint64_t>::run(
      info.Env(),
      [device = handle_.lease(info.Env()), slot] { return mark_what_is_allocated(*device, slot); },
      [](Napi::Env env, uint64_t& marked_bytes) -> Napi::Value {
        return Napi::Number::New(env, static_cast<double>(marked_bytes));
      });
}

Napi::Value TrackedDeviceObject::dirty_extents(const Napi::CallbackInfo& info) {
  const DirtyBitmap& bitmap = handle_.get(info.Env()).bitmap();
  const bool is_live = string_argument(info, 0) == "live";
  const MapId map = map_argument(info, 0, is_live ? 0 : slot_argument(info, 1));
  uint64_t from_bytes = bytes_argument(info, 2);
  const uint32_t max_extents = uint32_argument(info, 3);
  const uint64_t max_extent_bytes = bytes_argument(info, 4);
  std::vector<ByteExtent> extents;
  while (extents.size() < max_extents) {
    const auto extent = bitmap.next_extent(map, from_bytes, max_extent_bytes);
    if (!extent) break;
    extents.push_back(*extent);
    from_bytes = extent->offset_bytes + extent->length_bytes;
  }
  return to_js_extents(info.Env(), extents);
}

Napi::Value TrackedDeviceObject::begin_comparison(const Napi::CallbackInfo& info) {
  const uint32_t slot = slot_argument(info, 0);
  return AsyncTask<uint64_t>::run(
      info.Env(),
      [device = handle_.lease(info.Env()), slot] { return device->begin_comparison(slot); },
      [](Napi::Env env, uint64_t& count) -> Napi::Value {
        return Napi::Number::New(env, static_cast<double>(count));
      });
}

Napi::Value TrackedDeviceObject::settle_comparison(const Napi::CallbackInfo& info) {
  const uint32_t slot = slot_argument(info, 0);
  const uint64_t count = bytes_argument(info, 1);
  return AsyncTask<bool>::run(
      info.Env(),
      [device = handle_.lease(info.Env()), slot, count, equal = extents_argument(info, 2),
       different = extents_argument(info, 3)] {
        return device->settle_comparison(slot, count, equal, different);
      },
      [](Napi::Env env, bool& is_settled) -> Napi::Value {
        return Napi::Boolean::New(env, is_settled);
      });
}

Napi::Value TrackedDeviceObject::mark_all_suspect(const Napi::CallbackInfo& info) {
  const uint32_t slot = slot_argument(info, 0);
  const auto causes = static_cast<SuspicionCauses>(uint32_argument(info, 1));
  return run_status_task(info.Env(), [device = handle_.lease(info.Env()), slot, causes] {
    return device->mark_suspect(slot, 0, device->size_bytes(), causes);
  });
}

Napi::Value TrackedDeviceObject::add_marks(const Napi::CallbackInfo& info) {
  const uint32_t slot = slot_argument(info, 0);
  const auto causes = static_cast<SuspicionCauses>(uint32_argument(info, 3));
  return run_status_task(info.Env(), [device = handle_.lease(info.Env()), slot, causes,
                                      pending = extents_argument(info, 1),
                                      suspect = extents_argument(info, 2)] {
    for (const ByteExtent& extent : suspect) {
      Status status = device->mark_suspect(slot, extent.offset_bytes, extent.length_bytes, causes);
      if (!status.is_ok()) return status;
    }
    return device->mark_pending(slot, pending);
  });
}

Napi::Value TrackedDeviceObject::move_bits(const Napi::CallbackInfo& info,
                                           Status (TrackedDevice::*move)(uint32_t)) {
  const uint32_t slot = slot_argument(info, 0);
  return run_status_task(info.Env(), [device = handle_.lease(info.Env()), slot, move] {
    return ((*device).*move)(slot);
  });
}

Napi::Value TrackedDeviceObject::commit(const Napi::CallbackInfo& info) {
  return move_bits(info, &TrackedDevice::commit);
}
Napi::Value TrackedDeviceObject::give_back(const Napi::CallbackInfo& info) {
  return move_bits(info, &TrackedDevice::give_back);
}
Napi::Value TrackedDeviceObject::stage(const Napi::CallbackInfo& info) {
  return move_bits(info, &TrackedDevice::stage);
}
Napi::Value TrackedDeviceObject::unstage(const Napi::CallbackInfo& info) {
  return move_bits(info, &TrackedDevice::unstage);
}

Napi::Value TrackedDeviceObject::close(const Napi::CallbackInfo& info) {
  return handle_.close(
      info.Env(),
      [leases = device_leases_, bitmap = bitmap_](std::shared_ptr<TrackedDevice> device) -> Status {
        leases->wait_for_zero();
        if (device.use_count() > 1) {
          return {ErrorCode::kInUse,
                  "Cannot close the tracked disk cleanly: it is still exported or captured. "
                  "Remove its exports and close its captures first."};
        }
        // What stays marked is suspect after the end of this boot, no more.
        (void)device->settle();
        // Without a fingerprint the bitmap is still right: the next open suspects all.
        (void)keep_fingerprint(device->backing(), *bitmap);
        return bitmap->close();
      });
}

Napi::Value track_device_js(const Napi::CallbackInfo& info) {
  const std::string bitmap_path = string_argument(info, 1);
  const Uuid disk = uuid_argument(info, 2);
  const uint32_t granularity_bytes = uint32_argument(info, 3);
  const bool create = bool_argument(info, 4);
  const Durability durability = durability_argument(info, 5);
  auto backing = device_argument(info, 0).take_device(info.Env());
  return AsyncTask<Tracked>::run(
      info.Env(),
      [=] { return track(backing, bitmap_path, disk, granularity_bytes, create, durability); },
      [](Napi::Env env, Tracked& tracked) -> Napi::Value {
        Napi::Object object = wrap_new(env, AddonData::of(env).tracked_device, tracked.device);
        TrackedDeviceObject::Unwrap(object)->set_bitmap(tracked.bitmap);
        object.Set("foundCauses", tracked.causes);
        return object;
      });
}

}  // namespace tidemark
