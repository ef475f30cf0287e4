// openNbdDevice() and the state of an upstream, for JavaScript.
#include "addon/device_object.h"
#include "device/nbd_device.h"
#include "device/nbd_uri.h"

namespace tidemark {

Napi::Value upstream_of(Napi::Env env, const BlockDevice& device) {
  const auto* upstream = dynamic_cast<const NbdDevice*>(&device);
  if (upstream == nullptr) return env.Null();
  const NbdUpstreamStatus status = upstream->upstream_status();
  const auto number = [env](uint64_t value) {
    return Napi::Number::New(env, static_cast<double>(value));
  };
  Napi::Object object = Napi::Object::New(env);
  object.Set("isConnected", status.is_connected);
  object.Set("connectionCount", status.connection_count);
  object.Set("lossCount", number(status.loss_count));
  object.Set("reissuedCount", number(status.reissued_count));
  object.Set("replayedCount", number(status.replayed_count));
  object.Set("lastError", status.last_error);
  return object;
}

Napi::Value upstream_of(Napi::Env env, TrackedDevice& device) {
  return upstream_of(env, static_cast<const BlockDevice&>(device.backing()));
}

Napi::Value open_nbd_device_js(const Napi::CallbackInfo& info) {
  auto parsed = parse_nbd_uri(string_argument(info, 0));
  if (!parsed.is_ok()) throw to_js_error(info.Env(), parsed.status());
  NbdDeviceParameters parameters = parsed.value();
  parameters.connection_count = uint32_argument(info, 1);
  parameters.read_only = bool_argument(info, 2);
  parameters.reconnect_limit = std::chrono::milliseconds(uint32_argument(info, 3));
  using Opened = std::shared_ptr<BlockDevice>;
  return AsyncTask<Opened>::run(
      info.Env(),
      [parameters]() -> Result<Opened> {
        auto device = open_nbd_device(parameters);
        if (!device.is_ok()) return device.status();
        return Opened(std::move(device.value()));
      },
      [](Napi::Env env, Opened& device) -> Napi::Value {
        return wrap_new(env, AddonData::of(env).device, device);
      });
}

}  // namespace tidemark
