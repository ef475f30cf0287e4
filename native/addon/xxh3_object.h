#pragma once

#include <napi.h>

#include "addon/handle.h"
#include "common/xxh3.h"

namespace tidemark {

// A hash that is being made, on the JavaScript thread.
class Xxh3Object final : public Napi::ObjectWrap<Xxh3Object> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit Xxh3Object(const Napi::CallbackInfo& info);

 private:
  Napi::Value update(const Napi::CallbackInfo& info);
  Napi::Value digest(const Napi::CallbackInfo& info);

  Handle<Xxh3> handle_;
};

// Module function.
Napi::Value xxh3_js(const Napi::CallbackInfo& info);

}  // namespace tidemark
