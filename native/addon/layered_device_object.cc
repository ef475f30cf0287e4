#include "addon/layered_device_object.h"

#include "addon/addon_data.h"
#include "addon/arguments.h"
#include "addon/async_task.h"
#include "addon/scratch_budget_object.h"
#include "device/file_device.h"
#include "device/memory_device.h"
#include "layers/open_layered_device.h"

namespace tidemark {

namespace {

Result<std::shared_ptr<LayeredDevice>> open_layered(LayeredDeviceParameters parameters,
                                                    const std::string& base_path,
                                                    const std::vector<std::string>& layer_paths) {
  // Without a base there are zeroes below the layers; they take no memory until written.
  parameters.base = make_memory_device(parameters.size_bytes);
  if (!base_path.empty()) {
    auto base = open_file_device({.path = base_path, .read_only = true});
    if (!base.is_ok()) return base.status();
    parameters.base = std::move(base).value();
    parameters.base_path = base_path;
  }
  for (const std::string& path : layer_paths) {
    auto layer = Layer::open(path, parameters.disk);
    if (!layer.is_ok()) return layer.status();
    parameters.layers.push_back(std::move(layer).value());
  }
  return open_layered_device(std::move(parameters));
}

}  // namespace

Napi::Function LayeredDeviceObject::define(Napi::Env env) {
  auto properties = device_properties();
  properties.push_back(InstanceMethod("close", &LayeredDeviceObject::close));
  properties.push_back(InstanceMethod("fold", &LayeredDeviceObject::fold));
  return DefineClass(env, "LayeredDevice", properties);
}

Napi::Value LayeredDeviceObject::fold(const Napi::CallbackInfo& info) {
  auto device = layered_.lock();
  if (device == nullptr) {
    throw to_js_error(info.Env(),
                      Status(ErrorCode::kClosed, "Cannot use this object: it is closed."));
  }
  using Pointer = std::unique_ptr<Fold>;
  return AsyncTask<Pointer>::run(
      info.Env(),
      [device, base_path = string_argument(info, 0)] { return Fold::open(device, base_path); },
      [](Napi::Env env, Pointer& fold) -> Napi::Value {
        return wrap_new(env, AddonData::of(env).fold, std::shared_ptr<Fold>(std::move(fold)));
      });
}

Napi::Value LayeredDeviceObject::close(const Napi::CallbackInfo& info) {
  return handle_.close(info.Env(),
                       [leases = device_leases_](std::shared_ptr<LayeredDevice> device) {
                         leases->wait_for_zero();
                         device.reset();
                         return Status::ok();
                       });
}

Napi::Function FoldObject::define(Napi::Env env) {
  using Self = FoldObject;
  return DefineClass(env, "Fold",
                     {
                         InstanceAccessor("positionBytes", &Self::position_bytes, nullptr),
                         InstanceMethod("step", &Self::step),
                         InstanceMethod("finish", &Self::finish),
                         InstanceMethod("close", &Self::close),
                     });
}

FoldObject::FoldObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<FoldObject>(info) {
  handle_.set(unwrap_external<Fold>(info));
}

Napi::Value FoldObject::position_bytes(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(),
                           static_cast<double>(handle_.get(info.Env()).position_bytes()));
}

Napi::Value FoldObject::step(const Napi::CallbackInfo& info) {
  const uint64_t max_bytes = bytes_argument(info, 0);
  return AsyncTask<bool>::run(
      info.Env(), [fold = handle_.lease(info.Env()), max_bytes] { return fold->step(max_bytes); },
      [](Napi::Env env, bool& more) { return Napi::Boolean::New(env, more); });
}

Napi::Value FoldObject::finish(const Napi::CallbackInfo& info) {
  return run_status_task(info.Env(), [fold = handle_.lease(info.Env())] { return fold->finish(); });
}

Napi::Value FoldObject::close(const Napi::CallbackInfo& info) {
  return handle_.close(info.Env(), [](std::shared_ptr<Fold>) { return Status::ok(); });
}

Napi::Value open_layered_device_js(const Napi::CallbackInfo& info) {
  LayeredDeviceParameters parameters;
  parameters.disk = uuid_argument(info, 0);
  parameters.size_bytes = bytes_argument(info, 1);
  parameters.granularity_bytes = uint32_argument(info, 2);
  const std::string base_path = string_argument(info, 3);
  const auto layer_paths = paths_argument(info, 4);
  parameters.scratch_path = string_argument(info, 5);
  parameters.scratch_budget = budget_argument(info, 6);
  return AsyncTask<std::shared_ptr<LayeredDevice>>::run(
      info.Env(),
      [parameters, base_path, layer_paths] {
        return open_layered(parameters, base_path, layer_paths);
      },
      [](Napi::Env env, std::shared_ptr<LayeredDevice>& device) -> Napi::Value {
        return wrap_new(env, AddonData::of(env).layered_device, device);
      });
}

}  // namespace tidemark
