#pragma once

#include <napi.h>

#include "addon/handle.h"
#include "layers/layer.h"

namespace tidemark {

class LayerSegmentWriterObject final : public Napi::ObjectWrap<LayerSegmentWriterObject> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit LayerSegmentWriterObject(const Napi::CallbackInfo& info);

 private:
  Napi::Value append(const Napi::CallbackInfo& info);
  Napi::Value zero(const Napi::CallbackInfo& info);
  Napi::Value finish(const Napi::CallbackInfo& info);

  Handle<LayerSegmentWriter> handle_;
};

// Module functions.
Napi::Value layer_segment_writer_js(const Napi::CallbackInfo& info);
Napi::Value seal_layer_js(const Napi::CallbackInfo& info);
Napi::Value verify_layer_js(const Napi::CallbackInfo& info);
Napi::Value open_layered_device_js(const Napi::CallbackInfo& info);

}  // namespace tidemark
