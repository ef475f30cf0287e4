// The binding: what lib/tracking/binding.ts declares, and nothing more. One
// wrapper class an object; blocking work goes to pool threads (async_task.h);
// each environment has its own constructors (addon_data.h), the native objects
// behind them are shared by the process.
#include <napi.h>

#include "addon/addon_data.h"
#include "addon/arguments.h"
#include "addon/attach_functions.h"
#include "addon/capture_object.h"
#include "addon/checkpoint_function.h"
#include "addon/device_object.h"
#include "addon/hand_over_functions.h"
#include "addon/layer_objects.h"
#include "addon/nbd_server_object.h"
#include "addon/tracked_device_object.h"
#include "common/crc32c.h"
#include "common/failpoint.h"

namespace tidemark {

namespace {

Napi::Value crc32c_js(const Napi::CallbackInfo& info) {
  const auto data = buffer_argument(info, 0);
  return Napi::Number::New(info.Env(), crc32c(data.data(), data.size(), uint32_argument(info, 1)));
}

void define_constructors(Napi::Env env) {
  auto* data = new AddonData();
  data->device = Napi::Persistent(DeviceObject::define(env));
  data->fault_device = Napi::Persistent(FaultDeviceObject::define(env));
  data->tracked_device = Napi::Persistent(TrackedDeviceObject::define(env));
  data->capture = Napi::Persistent(CaptureObject::define(env));
  data->nbd_server = Napi::Persistent(NbdServerObject::define(env));
  data->link_keeper = Napi::Persistent(LinkKeeperObject::define(env));
  data->layer_segment_writer = Napi::Persistent(LayerSegmentWriterObject::define(env));
  env.SetInstanceData(data);
}

Napi::Object initialise(Napi::Env env, Napi::Object exports) {
  arm_failpoints_from_environment();
  define_constructors(env);
  const auto add = [&](const char* name, Napi::Value (*function)(const Napi::CallbackInfo&)) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  add("crc32c", crc32c_js);
  add("openFileDevice", open_file_device_js);
  add("openNbdDevice", open_nbd_device_js);
  add("memoryDevice", memory_device_js);
  add("faultDevice", fault_device_js);
  add("trackDevice", track_device_js);
  add("checkpoint", checkpoint_js);
  add("attachCapture", attach_capture_js);
  add("startNbdServer", start_nbd_server_js);
  add("layerSegmentWriter", layer_segment_writer_js);
  add("sealLayer", seal_layer_js);
  add("verifyLayer", verify_layer_js);
  add("openLayeredDevice", open_layered_device_js);
  add("reusePortSocket", reuse_port_socket_js);
  add_attach_functions(env, exports);
  add_hand_over_functions(env, exports);
  return exports;
}

}  // namespace

}  // namespace tidemark

static Napi::Object initialise_addon(Napi::Env env, Napi::Object exports) {
  return tidemark::initialise(env, exports);
}

NODE_API_MODULE(tidemark, initialise_addon)
