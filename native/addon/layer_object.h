#pragma once

#include <napi.h>

#include "addon/handle.h"
#include "layers/layer.h"

namespace tidemark {

// A sealed layer's index and checksums.
class LayerObject final : public Napi::ObjectWrap<LayerObject> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit LayerObject(const Napi::CallbackInfo& info);

 private:
  Napi::Value granularity_bytes(const Napi::CallbackInfo& info);
  Napi::Value checksum(const Napi::CallbackInfo& info);
  Napi::Value extents(const Napi::CallbackInfo& info);
  Napi::Value checksums(const Napi::CallbackInfo& info);
  Napi::Value scan(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);

  Handle<const Layer> handle_;
};

// Module functions.
Napi::Value open_layer_js(const Napi::CallbackInfo& info);
Napi::Value checksum_file_js(const Napi::CallbackInfo& info);

}  // namespace tidemark
