#include "addon/exchangeable_device_object.h"

#include "addon/addon_data.h"
#include "addon/async_task.h"

namespace tidemark {

Napi::Function ExchangeableDeviceObject::define(Napi::Env env) {
  auto properties = device_properties();
  properties.push_back(InstanceMethod("close", &ExchangeableDeviceObject::close));
  properties.push_back(InstanceMethod("exchange", &ExchangeableDeviceObject::exchange));
  return DefineClass(env, "ExchangeableDevice", properties);
}

Napi::Value ExchangeableDeviceObject::exchange(const Napi::CallbackInfo& info) {
  auto device = exchangeable_.lock();
  if (device == nullptr) {
    throw to_js_error(info.Env(),
                      Status(ErrorCode::kClosed, "Cannot use this object: it is closed."));
  }
  const auto next = device_argument(info, 0).take_device(info.Env());
  return run_status_task(info.Env(), [device, next] { return device->exchange(next); });
}

Napi::Value ExchangeableDeviceObject::close(const Napi::CallbackInfo& info) {
  return handle_.close(info.Env(),
                       [leases = device_leases_](std::shared_ptr<ExchangeableDevice> device) {
                         leases->wait_for_zero();
                         device.reset();
                         return Status::ok();
                       });
}

Napi::Value exchangeable_device_js(const Napi::CallbackInfo& info) {
  return wrap_new(info.Env(), AddonData::of(info.Env()).exchangeable_device,
                  make_exchangeable_device(device_argument(info, 0).take_device(info.Env())));
}

}  // namespace tidemark
