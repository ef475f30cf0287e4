#include "addon/layer_object.h"

#include <algorithm>

#include "addon/addon_data.h"
#include "addon/arguments.h"
#include "addon/async_task.h"
#include "layers/layer_scan.h"

namespace tidemark {

namespace {

Napi::Value to_js_checksums(Napi::Env env, const std::vector<uint32_t>& checksums) {
  auto array = Napi::Uint32Array::New(env, checksums.size());
  for (size_t i = 0; i < checksums.size(); ++i) array[i] = checksums[i];
  return array;
}

Napi::Value to_js_scan(Napi::Env env, const LayerScan& scan) {
  auto damaged = Napi::Float64Array::New(env, scan.damaged.size() * 2);
  for (size_t i = 0; i < scan.damaged.size(); ++i) {
    damaged[2 * i] = static_cast<double>(scan.damaged[i].offset_bytes);
    damaged[2 * i + 1] = static_cast<double>(scan.damaged[i].length_bytes);
  }
  Napi::Object object = Napi::Object::New(env);
  object.Set("nextBytes", static_cast<double>(scan.next_bytes));
  object.Set("readBytes", static_cast<double>(scan.read_bytes));
  object.Set("damaged", damaged);
  return object;
}

}  // namespace

Napi::Function LayerObject::define(Napi::Env env) {
  using Self = LayerObject;
  return DefineClass(env, "Layer",
                     {
                         InstanceAccessor("granularityBytes", &Self::granularity_bytes, nullptr),
                         InstanceAccessor("checksum", &Self::checksum, nullptr),
                         InstanceMethod("extents", &Self::extents),
                         InstanceMethod("checksums", &Self::checksums),
                         InstanceMethod("scan", &Self::scan),
                         InstanceMethod("close", &Self::close),
                     });
}

LayerObject::LayerObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<LayerObject>(info) {
  handle_.set(unwrap_external<const Layer>(info));
}

Napi::Value LayerObject::granularity_bytes(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), handle_.get(info.Env()).identity().granularity_bytes);
}

Napi::Value LayerObject::checksum(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), handle_.get(info.Env()).summary().checksum);
}

Napi::Value LayerObject::extents(const Napi::CallbackInfo& info) {
  const Layer& layer = handle_.get(info.Env());
  const uint64_t first = layer.first_extent_past(bytes_argument(info, 0));
  const uint64_t end =
      first + std::min<uint64_t>(uint32_argument(info, 1), layer.extent_count() - first);
  auto array = Napi::Float64Array::New(info.Env(), (end - first) * 3);
  for (uint64_t i = first; i < end; ++i) {
    const LayerExtent extent = layer.extent_at(i);
    const size_t at = static_cast<size_t>(i - first) * 3;
    array[at] = static_cast<double>(extent.disk_offset_bytes);
    array[at + 1] = static_cast<double>(extent.length_bytes);
    array[at + 2] = extent.is_zero() ? 1 : 0;
  }
  return array;
}

Napi::Value LayerObject::checksums(const Napi::CallbackInfo& info) {
  const Layer& layer = handle_.get(info.Env());
  return to_js_checksums(info.Env(),
                         value_or_throw(info.Env(), stored_checksums(layer, bytes_argument(info, 0),
                                                                     bytes_argument(info, 1))));
}

Napi::Value LayerObject::scan(const Napi::CallbackInfo& info) {
  const uint64_t from_bytes = bytes_argument(info, 0);
  const uint64_t limit_bytes = bytes_argument(info, 1);
  return AsyncTask<LayerScan>::run(
      info.Env(),
      [layer = handle_.lease(info.Env()), from_bytes, limit_bytes]() -> Result<LayerScan> {
        return scan_layer(*layer, from_bytes, limit_bytes);
      },
      [](Napi::Env env, LayerScan& scan) { return to_js_scan(env, scan); });
}

Napi::Value LayerObject::close(const Napi::CallbackInfo& info) {
  return handle_.close(info.Env(), [](std::shared_ptr<const Layer> layer) {
    layer.reset();
    return Status::ok();
  });
}

Napi::Value open_layer_js(const Napi::CallbackInfo& info) {
  const std::string path = string_argument(info, 0);
  const Uuid disk = uuid_argument(info, 1);
  return AsyncTask<std::shared_ptr<const Layer>>::run(
      info.Env(), [path, disk] { return Layer::open(path, disk); },
      [](Napi::Env env, std::shared_ptr<const Layer>& layer) -> Napi::Value {
        return wrap_new(env, AddonData::of(env).layer, layer);
      });
}

Napi::Value checksum_file_js(const Napi::CallbackInfo& info) {
  const std::string path = string_argument(info, 0);
  const uint64_t offset_bytes = bytes_argument(info, 1);
  const uint64_t length_bytes = bytes_argument(info, 2);
  const uint32_t block_bytes = uint32_argument(info, 3);
  return AsyncTask<std::vector<uint32_t>>::run(
      info.Env(), [=] { return checksum_file(path, offset_bytes, length_bytes, block_bytes); },
      [](Napi::Env env, std::vector<uint32_t>& checksums) {
        return to_js_checksums(env, checksums);
      });
}

}  // namespace tidemark
