#include "addon/layer_objects.h"

#include "addon/addon_data.h"
#include "addon/arguments.h"
#include "addon/async_task.h"

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
    throw to_js_error(info.Env(),
                      Status(ErrorCode::kInvalidArgument,
                             std::string("Cannot seal the layer: ") + name + " is not a UUID."));
  };
  LayerIdentity identity;
  identity.disk = uuid("diskId");
  identity.lineage = uuid("lineage");
  identity.sequence = static_cast<uint64_t>(object.Get("sequence").As<Napi::Number>().Int64Value());
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

Result<LayerSummary> verify(const std::string& path, const Uuid& disk, bool deep) {
  auto layer = Layer::open(path, disk);
  if (!layer.is_ok()) return layer.status();
  if (deep) {
    Status status = layer.value()->verify();
    if (!status.is_ok()) return status;
  }
  return layer.value()->summary();
}

}  // namespace

Napi::Function LayerSegmentWriterObject::define(Napi::Env env) {
  using Self = LayerSegmentWriterObject;
  return DefineClass(env, "LayerSegmentWriter",
                     {
                         InstanceMethod("append", &Self::append),
                         InstanceMethod("zero", &Self::zero),
                         InstanceMethod("finish", &Self::finish),
                         InstanceMethod("close", &Self::close),
                     });
}

LayerSegmentWriterObject::LayerSegmentWriterObject(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<LayerSegmentWriterObject>(info) {
  handle_.set(unwrap_external<LayerSegmentWriter>(info));
}

Napi::Value LayerSegmentWriterObject::append(const Napi::CallbackInfo& info) {
  throw_unless_ok(
      info.Env(),
      handle_.get(info.Env()).append(bytes_argument(info, 0), buffer_argument(info, 1)));
  return info.Env().Undefined();
}

Napi::Value LayerSegmentWriterObject::zero(const Napi::CallbackInfo& info) {
  throw_unless_ok(info.Env(),
                  handle_.get(info.Env()).zero(bytes_argument(info, 0), bytes_argument(info, 1)));
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

Napi::Value LayerSegmentWriterObject::close(const Napi::CallbackInfo& info) {
  return handle_.close(info.Env(),
                       [](std::shared_ptr<LayerSegmentWriter>) { return Status::ok(); });
}

Napi::Function LayerMergeObject::define(Napi::Env env) {
  using Self = LayerMergeObject;
  return DefineClass(env, "LayerMerge",
                     {
                         InstanceMethod("step", &Self::step),
                         InstanceMethod("finish", &Self::finish),
                         InstanceMethod("close", &Self::close),
                     });
}

LayerMergeObject::LayerMergeObject(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<LayerMergeObject>(info) {
  handle_.set(unwrap_external<LayerMerge>(info));
}

Napi::Value LayerMergeObject::step(const Napi::CallbackInfo& info) {
  const uint64_t max_bytes = bytes_argument(info, 0);
  return AsyncTask<bool>::run(
      info.Env(), [merge = handle_.lease(info.Env()), max_bytes] { return merge->step(max_bytes); },
      [](Napi::Env env, bool& more) { return Napi::Boolean::New(env, more); });
}

Napi::Value LayerMergeObject::finish(const Napi::CallbackInfo& info) {
  return AsyncTask<LayerSummary>::run(
      info.Env(), [merge = handle_.lease(info.Env())] { return merge->finish(); },
      [](Napi::Env env, LayerSummary& summary) { return to_js_summary(env, summary); });
}

Napi::Value LayerMergeObject::close(const Napi::CallbackInfo& info) {
  return handle_.close(info.Env(), [](std::shared_ptr<LayerMerge>) { return Status::ok(); });
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

namespace {

using MergePointer = std::unique_ptr<LayerMerge>;

Napi::Value wrap_merge(Napi::Env env, MergePointer& merge) {
  return wrap_new(env, AddonData::of(env).layer_merge,
                  std::shared_ptr<LayerMerge>(std::move(merge)));
}

}  // namespace

Napi::Value merge_into_layer_js(const Napi::CallbackInfo& info) {
  const std::string path = string_argument(info, 0);
  const LayerIdentity identity = identity_argument(info, 1);
  const auto layer_paths = paths_argument(info, 2);
  return AsyncTask<MergePointer>::run(
      info.Env(),
      [path, identity, layer_paths] { return LayerMerge::into_layer(path, identity, layer_paths); },
      wrap_merge);
}

Napi::Value merge_into_base_js(const Napi::CallbackInfo& info) {
  const std::string path = string_argument(info, 0);
  const Uuid disk = uuid_argument(info, 1);
  const uint64_t disk_size_bytes = bytes_argument(info, 2);
  const auto layer_paths = paths_argument(info, 3);
  return AsyncTask<MergePointer>::run(
      info.Env(),
      [path, disk, disk_size_bytes, layer_paths] {
        return LayerMerge::into_base(path, disk, disk_size_bytes, layer_paths);
      },
      wrap_merge);
}

}  // namespace tidemark
