#include "addon/known_content_object.h"

#include "addon/addon_data.h"
#include "addon/arguments.h"
#include "addon/async_task.h"

namespace tidemark {

Napi::Function KnownContentObject::define(Napi::Env env) {
  using Self = KnownContentObject;
  return DefineClass(env, "KnownContent",
                     {
                         InstanceAccessor("pointId", &Self::point_id, nullptr),
                         InstanceMethod("settle", &Self::settle),
                         InstanceMethod("drop", &Self::drop),
                         InstanceMethod("close", &Self::close),
                     });
}

KnownContentObject::KnownContentObject(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<KnownContentObject>(info) {
  handle_.set(unwrap_external<KnownContent>(info));
}

std::shared_ptr<ContentFilter> KnownContentObject::begin_filter(Napi::Env env,
                                                                const Capture& capture) {
  const auto known = handle_.share(env);
  const bool fits = known->disk().size_bytes == capture.disk_size_bytes() &&
                    known->disk().granularity_bytes == capture.granularity_bytes();
  if (!fits) {
    throw to_js_error(env, Status(ErrorCode::kForeign,
                                  "Cannot filter the capture: because its disk is another one."));
  }
  if (filter_ != nullptr) filter_->drop();
  filter_ = std::make_shared<ContentFilter>(known, capture.dirty_bytes());
  return filter_;
}

Napi::Value KnownContentObject::point_id(const Napi::CallbackInfo& info) {
  const Uuid& point = handle_.get(info.Env()).point();
  if (point.is_nil()) return info.Env().Null();
  return Napi::String::New(info.Env(), point.to_string());
}

Napi::Value KnownContentObject::settle(const Napi::CallbackInfo& info) {
  const Uuid point = uuid_argument(info, 0);
  auto known = handle_.lease(info.Env());
  return run_status_task(info.Env(), [known, filter = std::exchange(filter_, nullptr), point] {
    return filter == nullptr ? known->clear() : filter->settle(point);
  });
}

Napi::Value KnownContentObject::drop(const Napi::CallbackInfo& info) {
  if (const auto filter = std::exchange(filter_, nullptr)) filter->drop();
  return info.Env().Undefined();
}

Napi::Value KnownContentObject::close(const Napi::CallbackInfo& info) {
  if (const auto filter = std::exchange(filter_, nullptr)) filter->drop();
  return handle_.close(info.Env(), [](std::shared_ptr<KnownContent> known) {
    known.reset();
    return Status::ok();
  });
}

KnownContentObject& known_content_argument(const Napi::CallbackInfo& info, size_t index) {
  const Napi::Env env = info.Env();
  const Napi::Value value = info[index];
  if (value.IsObject() &&
      value.As<Napi::Object>().InstanceOf(AddonData::of(env).known_content.Value())) {
    return *KnownContentObject::Unwrap(value.As<Napi::Object>());
  }
  throw to_js_error(
      env, Status(ErrorCode::kInvalidArgument, "Cannot use this value: it is not known content."));
}

Napi::Value open_known_content_js(const Napi::CallbackInfo& info) {
  const std::string path = string_argument(info, 0);
  const KnownDisk disk{uuid_argument(info, 1), bytes_argument(info, 2), uint32_argument(info, 3)};
  return AsyncTask<std::shared_ptr<KnownContent>>::run(
      info.Env(), [path, disk] { return KnownContent::open(path, disk); },
      [](Napi::Env env, std::shared_ptr<KnownContent>& known) -> Napi::Value {
        return wrap_new(env, AddonData::of(env).known_content, known);
      });
}

}  // namespace tidemark
