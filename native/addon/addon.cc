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
#include "addon/exchangeable_device_object.h"
#include "addon/hand_over_functions.h"
#include "addon/known_content_object.h"
#include "addon/layer_object.h"
#include "addon/layer_objects.h"
#include "addon/layered_device_object.h"
#include "addon/nbd_server_object.h"
#include "addon/scratch_budget_object.h"
#include "addon/tracked_device_object.h"
#include "addon/xxh3_object.h"
#include "common/crc32c.h"
#include "common/failpoint.h"

namespace tidemark {

namespace {

Napi::Value crc32c_js(const Napi::CallbackInfo& info) {
  const auto data = buffer_argument(info, 0);
  return Napi::Number::New(info.Env(), crc32c(data.data(), data.size(), uint32_argument(info, 1)));
}

// A view that shares its memory with others is left to the collector.
Napi::Value free_memory_js(const Napi::CallbackInfo& info) {
  const auto bytes = info[0].As<Napi::Uint8Array>();
  Napi::ArrayBuffer memory = bytes.ArrayBuffer();
  if (bytes.ByteLength() == memory.ByteLength()) memory.Detach();
  return info.Env().Undefined();
}

void define_constructors(Napi::Env env) {
  auto* data = new AddonData();
  data->device = Napi::Persistent(DeviceObject::define(env));
  data->fault_device = Napi::Persistent(FaultDeviceObject::define(env));
  data->exchangeable_device = Napi::Persistent(ExchangeableDeviceObject::define(env));
  data->layered_device = Napi::Persistent(LayeredDeviceObject::define(env));
  data->fold = Napi::Persistent(FoldObject::define(env));
  data->tracked_device = Napi::Persistent(TrackedDeviceObject::define(env));
  data->capture = Napi::Persistent(CaptureObject::define(env));
  data->known_content = Napi::Persistent(KnownContentObject::define(env));
  data->nbd_server = Napi::Persistent(NbdServerObject::define(env));
  data->link_keeper = Napi::Persistent(LinkKeeperObject::define(env));
  data->layer_segment_writer = Napi::Persistent(LayerSegmentWriterObject::define(env));
  data->layer = Napi::Persistent(LayerObject::define(env));
  data->layer_merge = Napi::Persistent(LayerMergeObject::define(env));
  data->scratch_budget = Napi::Persistent(ScratchBudgetObject::define(env));
  data->xxh3 = Napi::Persistent(Xxh3Object::define(env));
  env.SetInstanceData(data);
}

Napi::Object initialise(Napi::Env env, Napi::Object exports) {
  arm_failpoints_from_environment();
  define_constructors(env);
  const auto add = [&](const char* name, Napi::Value (*function)(const Napi::CallbackInfo&)) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  add("crc32c", crc32c_js);
  add("freeMemory", free_memory_js);
  add("xxh3", xxh3_js);
  add("openFileDevice", open_file_device_js);
  add("openNbdDevice", open_nbd_device_js);
  add("memoryDevice", memory_device_js);
  add("faultDevice", fault_device_js);
  add("exchangeableDevice", exchangeable_device_js);
  add("trackDevice", track_device_js);
  add("checkpoint", checkpoint_js);
  add("attachCapture", attach_capture_js);
  add("openKnownContent", open_known_content_js);
  add("startNbdServer", start_nbd_server_js);
  add("layerSegmentWriter", layer_segment_writer_js);
  add("sealLayer", seal_layer_js);
  add("verifyLayer", verify_layer_js);
  add("openLayer", open_layer_js);
  add("checksumFile", checksum_file_js);
  add("mergeIntoLayer", merge_into_layer_js);
  add("mergeIntoBase", merge_into_base_js);
  add("openLayeredDevice", open_layered_device_js);
  add("scratchBudget", scratch_budget_js);
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
