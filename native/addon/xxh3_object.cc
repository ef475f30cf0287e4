#include "addon/xxh3_object.h"

#include "addon/addon_data.h"
#include "addon/arguments.h"

namespace tidemark {

Napi::Function Xxh3Object::define(Napi::Env env) {
  return DefineClass(env, "Xxh3",
                     {
                         InstanceMethod("update", &Xxh3Object::update),
                         InstanceMethod("digest", &Xxh3Object::digest),
                     });
}

Xxh3Object::Xxh3Object(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Xxh3Object>(info) {
  handle_.set(unwrap_external<Xxh3>(info));
}

Napi::Value Xxh3Object::update(const Napi::CallbackInfo& info) {
  handle_.get(info.Env()).update(buffer_argument(info, 0));
  return info.Env().Undefined();
}

Napi::Value Xxh3Object::digest(const Napi::CallbackInfo& info) {
  const auto digest = handle_.get(info.Env()).digest();
  return Napi::Buffer<uint8_t>::Copy(info.Env(), reinterpret_cast<const uint8_t*>(digest.data()),
                                     digest.size());
}

Napi::Value xxh3_js(const Napi::CallbackInfo& info) {
  return wrap_new(info.Env(), AddonData::of(info.Env()).xxh3, std::make_shared<Xxh3>());
}

}  // namespace tidemark
