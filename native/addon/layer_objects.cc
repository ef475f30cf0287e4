#include "addon/layer_objects.h"

#include "addon/addon_data.h"
#include "addon/arguments.h"
#include "addon/async_task.h"
#include "device/file_device.h"
#include "device/memory_device.h"
#include "layers/layered_device.h"

namespace tidemark {

namespace {

Napi::Value to_js_summary(Napi::Env env, const LayerSummary& summary) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("extentCount", static_cast<double>(summary.extent_count));
  object.Set("dataBytes", static_cast<double>(summary.data_bytes));
  object.Set("zeroBytes", static_cast<double>(summary.zero_bytes));
  object.Set("checksum", summary.checksum);
  return object;
}

LayerIdentity identity_argument(const Napi::CallbackInfo& info, size_t index) {
  const Napi::Object object = info[index].As<Napi::Object>();
  const auto uuid = [&](const char* name) {
    const auto parsed = Uuid::parse(object.Get(name).As<Napi::String>().Utf8Value());
    if (parsed) return *parsed;
    throw to_js_error(info.Env(), Status(ErrorCode::kInvalidArgument,
                                         std::string("Cannot seal the layer: ") + name +
                                             " is not a UUID."));
  };
  LayerIdentity identity;
  identity.disk = uuid("diskId");
  identity.lineage = uuid("lineage");
  identity.sequence =
      static_cast<uint64_t>(object.Get("sequence").As<Napi::Number>().Int64Value());
  identity.disk_size_bytes =
      static_cast<uint64_t>(object.Get("diskSizeBytes").As<Napi::Number>().Int64Value());
  identity.granularity_bytes = object.Get("granularityBytes").As<Napi::Number>().Uint32Value();
  return identity;
}

std::vector<std::vector<std::byte>> blobs_argument(const Napi::CallbackInfo& info, size_t index) {
  const Napi::Array array = info[index].As<Napi::Array>();
  std::vector<std::vector<std::byte>> blobs;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const Napi::Uint8Array bytes = array.Get(i).As<Napi::Uint8Array>();
    const auto* data = reinterpret_cast<const std::byte*>(bytes.Data());
    blobs.emplace_back(data, data + bytes.ByteLength());
  }
  return blobs;
}

std::vector<std::string> paths_argument(const Napi::CallbackInfo& info, size_t index) {
  const Napi::Array array = info[index].As<Napi::Array>();
  std::vector<std::string> paths;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    paths.push_back(array.Get(i).As<Napi::String>().Utf8Value());
  }
  return paths;
}

Result<LayerSummary> verify(const std::string& path, const Uuid& disk, bool deep) {
  auto layer = Layer::open(path, disk);
  if (!layer.is_ok()) return layer.status();
  if (deep) {
    Status status = layer.value()->verify();
    if (!status.is_ok()) return status;
  }
  return layer.value()->summary();
}

Result<std::shared_ptr<BlockDevice>> open_layered(LayeredDeviceParameters parameters,
                                                  const std::string& base_path,
                                                  const std::vector<std::string>& layer_paths) {
  // Without a base there are zeroes below the layers; they take no memory until written.
  parameters.base = make_memory_device(parameters.size_bytes);
  if (!base_path.empty()) {
    auto base = open_file_device({.path = base_path, .read_only = true});
    if (!base.is_ok()) return base.status();
    parameters.base = std::move(base).value();
  }
  for (const std::string& path : layer_paths) {
    auto layer = Layer::open(path, parameters.disk);
    if (!layer.is_ok()) return layer.status();
    parameters.layers.push_back(std::move(layer).value());
  }
  return open_layered_device(std::move(parameters));
}

}  // namespace

Napi::Function LayerSegmentWriterObject::define(Napi::Env env) {
  using Self = LayerSegmentWriterObject;
  return DefineClass(env, "LayerSegmentWriter",
                     {
                         InstanceMethod("append", &Self::append),
                         InstanceMethod("zero", &Self::zero),
                         InstanceMethod("finish", &Self::finish),
                     });
}

LayerSegmentWriterObject::LayerSegmentWriterObject(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<LayerSegmentWriterObject>(info) {
  handle_.set(unwrap_external<LayerSegmentWriter>(info));
}

Napi::Value LayerSegmentWriterObject::append(const Napi::CallbackInfo& info) {
  throw_unless_ok(info.Env(), handle_.get(info.Env()).append(bytes_argument(info, 0),
                                                             buffer_argument(info, 1)));
  return info.Env().Undefined();
}

Napi::Value LayerSegmentWriterObject::zero(const Napi::CallbackInfo& info) {
  throw_unless_ok(info.Env(), handle_.get(info.Env()).zero(bytes_argument(info, 0),
                                                           bytes_argument(info, 1)));
  return info.Env().Undefined();
}

Napi::Value LayerSegmentWriterObject::finish(const Napi::CallbackInfo& info) {
  using Blob = std::vector<std::byte>;
  std::shared_ptr<LayerSegmentWriter> writer = handle_.take(info.Env());
  return AsyncTask<Blob>::run(
      info.Env(), [writer] { return writer->finish(); },
      [](Napi::Env env, Blob& blob) -> Napi::Value {
        return Napi::Buffer<uint8_t>::Copy(env, reinterpret_cast<uint8_t*>(blob.data()),
                                           blob.size());
      });
}

Napi::Value layer_segment_writer_js(const Napi::CallbackInfo& info) {
  auto writer = value_or_throw(
      info.Env(), LayerSegmentWriter::open(string_argument(info, 0), bytes_argument(info, 1),
                                           bytes_argument(info, 2), uint32_argument(info, 3)));
  return wrap_new(info.Env(), AddonData::of(info.Env()).layer_segment_writer,
                  std::shared_ptr<LayerSegmentWriter>(std::move(writer)));
}

Napi::Value seal_layer_js(const Napi::CallbackInfo& info) {
  const std::string path = string_argument(info, 0);
  const LayerIdentity identity = identity_argument(info, 1);
  auto blobs = blobs_argument(info, 2);
  return AsyncTask<LayerSummary>::run(
      info.Env(), [path, identity, blobs] { return seal_layer(path, identity, blobs); },
      [](Napi::Env env, LayerSummary& summary) { return to_js_summary(env, summary); });
}

Napi::Value verify_layer_js(const Napi::CallbackInfo& info) {
  const std::string path = string_argument(info, 0);
  const Uuid disk = uuid_argument(info, 1);
  const bool deep = bool_argument(info, 2);
  return AsyncTask<LayerSummary>::run(
      info.Env(), [path, disk, deep] { return verify(path, disk, deep); },
      [](Napi::Env env, LayerSummary& summary) { return to_js_summary(env, summary); });
}

Napi::Value open_layered_device_js(const Napi::CallbackInfo& info) {
  LayeredDeviceParameters parameters;
  parameters.disk = uuid_argument(info, 0);
  parameters.size_bytes = bytes_argument(info, 1);
  parameters.granularity_bytes = uint32_argument(info, 2);
  const std::string base_path = string_argument(info, 3);
  const auto layer_paths = paths_argument(info, 4);
  parameters.scratch_path = string_argument(info, 5);
  return AsyncTask<std::shared_ptr<BlockDevice>>::run(
      info.Env(),
      [parameters, base_path, layer_paths] {
        return open_layered(parameters, base_path, layer_paths);
      },
      [](Napi::Env env, std::shared_ptr<BlockDevice>& device) -> Napi::Value {
        return wrap_new(env, AddonData::of(env).device, device);
      });
}

}  // namespace tidemark
