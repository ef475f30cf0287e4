#include "addon/hand_over_functions.h"

#include "addon/device_object.h"
#include "bitmap/bitmap_take_over.h"
#include "bitmap/state_export.h"
#include "device/fenced_device.h"
#include "tracking/state_import.h"

namespace tidemark {

namespace {

Napi::Value to_js_state(Napi::Env env, const StateFile::Content& content) {
  Napi::Object object = Napi::Object::New(env);
  Napi::Array targets = Napi::Array::New(env);
  for (const Uuid& target : content.bitmap.targets) {
    if (!target.is_nil()) targets.Set(targets.Length(), target.to_string());
  }
  object.Set("id", content.id.to_string());
  object.Set("epoch", static_cast<double>(content.epoch));
  object.Set("diskId", content.bitmap.disk.to_string());
  object.Set("sizeBytes", static_cast<double>(content.bitmap.disk_size_bytes));
  object.Set("granularityBytes", content.bitmap.granularity_bytes);
  object.Set("targetIds", targets);
  object.Set("annex", content.annex);
  return object;
}

const char* name_of(const StateFile& state) noexcept {
  if (!state.is_sealed()) return "unsealed";
  if (state.claim() == StateClaim::kImported) return "imported";
  return state.claim() == StateClaim::kTakenBack ? "taken back" : "exported";
}

Napi::Value export_state_js(const Napi::CallbackInfo& info) {
  return AsyncTask<StateFile::Content>::run(
      info.Env(),
      [bitmap = string_argument(info, 0), disk = uuid_argument(info, 1),
       state = string_argument(info, 2),
       annex = string_argument(info, 3)] { return export_state(bitmap, disk, state, annex); },
      [](Napi::Env env, StateFile::Content& content) { return to_js_state(env, content); });
}

Napi::Value import_state_js(const Napi::CallbackInfo& info) {
  const StateImport import{string_argument(info, 0), string_argument(info, 1),
                           uuid_argument(info, 2)};
  auto backing = device_argument(info, 3).share_device(info.Env());
  return AsyncTask<ImportedState>::run(
      info.Env(),
      [import, backing]() mutable {
        Result<ImportedState> imported = import_state(import, *backing);
        backing.reset();
        return imported;
      },
      [](Napi::Env env, ImportedState& imported) -> Napi::Value {
        Napi::Value object = to_js_state(env, imported.content);
        object.As<Napi::Object>().Set("foundCauses", uint32_t{imported.causes});
        return object;
      });
}

Napi::Value take_back_state_js(const Napi::CallbackInfo& info) {
  return run_status_task(
      info.Env(), [bitmap = string_argument(info, 0), state = string_argument(info, 1)] {
        return state.empty() ? take_back_by_force(bitmap) : take_back_state(bitmap, state);
      });
}

struct Described {
  StateFile::Content content;
  std::string stage;
};

Napi::Value describe_state_js(const Napi::CallbackInfo& info) {
  return AsyncTask<Described>::run(
      info.Env(),
      [path = string_argument(info, 0)]() -> Result<Described> {
        const Result<StateFile> state = StateFile::open(path);
        if (!state.is_ok()) return state.status();
        return Described{state.value().content(), name_of(state.value())};
      },
      [](Napi::Env env, Described& described) -> Napi::Value {
        Napi::Value object = to_js_state(env, described.content);
        object.As<Napi::Object>().Set("stage", described.stage);
        return object;
      });
}

// Takes over the device.
Napi::Value own_device_js(const Napi::CallbackInfo& info) {
  OwnerRecord::Claim claim;
  claim.path = string_argument(info, 1);
  claim.by_force = bool_argument(info, 2);
  claim.lease = std::chrono::milliseconds(uint32_argument(info, 3));
  auto backing = device_argument(info, 0).take_device(info.Env());
  using Owned = std::shared_ptr<BlockDevice>;
  return AsyncTask<Owned>::run(
      info.Env(),
      [backing, claim]() -> Result<Owned> {
        auto record = OwnerRecord::claim(claim);
        if (!record.is_ok()) return record.status();
        return Owned(std::make_shared<FencedDevice>(backing, std::move(record).value()));
      },
      [](Napi::Env env, Owned& device) -> Napi::Value {
        return wrap_new(env, AddonData::of(env).device, device);
      });
}

Napi::Value take_bitmap_over_js(const Napi::CallbackInfo& info) {
  return run_status_task(info.Env(),
                         [path = string_argument(info, 0)] { return take_bitmap_over(path); });
}

// Of a tracked device; null for one that needs no permission to write.
Napi::Value ownership_of_js(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto device = device_argument(info, 0).share_device(env);
  auto* const tracked = dynamic_cast<TrackedDevice*>(device.get());
  const BlockDevice& backing = tracked == nullptr ? *device : tracked->backing();
  const auto* const fenced = dynamic_cast<const FencedDevice*>(&backing);
  if (fenced == nullptr) return env.Null();
  const OwnershipStatus status = fenced->ownership();
  Napi::Object object = Napi::Object::New(env);
  object.Set("epoch", static_cast<double>(status.epoch));
  object.Set("isFenced", status.is_fenced);
  return object;
}

}  // namespace

void add_hand_over_functions(Napi::Env env, Napi::Object exports) {
  const auto add = [&](const char* name, Napi::Value (*function)(const Napi::CallbackInfo&)) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  add("exportState", export_state_js);
  add("importState", import_state_js);
  add("takeBackState", take_back_state_js);
  add("describeState", describe_state_js);
  add("ownDevice", own_device_js);
  add("takeBitmapOver", take_bitmap_over_js);
  add("ownershipOf", ownership_of_js);
}

}  // namespace tidemark
