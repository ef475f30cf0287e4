#pragma once

#include <napi.h>

#include "addon/device_object.h"
#include "layers/fold.h"

namespace tidemark {

// A device like any other, that can be folded, also after another object has taken
// it over.
class LayeredDeviceObject final : public DeviceObjectBase<LayeredDeviceObject, LayeredDevice> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit LayeredDeviceObject(const Napi::CallbackInfo& info)
      : DeviceObjectBase(info), layered_(handle_.share(info.Env())) {}

 private:
  friend class DeviceObjectBase<LayeredDeviceObject, LayeredDevice>;
  Napi::Value fold(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);

  std::weak_ptr<LayeredDevice> layered_;
};

class FoldObject final : public Napi::ObjectWrap<FoldObject> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit FoldObject(const Napi::CallbackInfo& info);

 private:
  Napi::Value step(const Napi::CallbackInfo& info);
  Napi::Value finish(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);
  Napi::Value position_bytes(const Napi::CallbackInfo& info);

  Handle<Fold> handle_;
};

// Module function.
Napi::Value open_layered_device_js(const Napi::CallbackInfo& info);

}  // namespace tidemark
