#pragma once

#include <napi.h>

#include "addon/device_object.h"
#include "device/exchangeable_device.h"

namespace tidemark {

// A device like any other, that can be exchanged also after another object has taken
// it over.
class ExchangeableDeviceObject final
    : public DeviceObjectBase<ExchangeableDeviceObject, ExchangeableDevice> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit ExchangeableDeviceObject(const Napi::CallbackInfo& info)
      : DeviceObjectBase(info), exchangeable_(handle_.share(info.Env())) {}

 private:
  friend class DeviceObjectBase<ExchangeableDeviceObject, ExchangeableDevice>;
  Napi::Value exchange(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);

  std::weak_ptr<ExchangeableDevice> exchangeable_;
};

// Module function.
Napi::Value exchangeable_device_js(const Napi::CallbackInfo& info);

}  // namespace tidemark
