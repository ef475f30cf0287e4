#pragma once

#include <napi.h>

#include "addon/handle.h"
#include "layers/layer.h"
#include "layers/layer_merge.h"

namespace tidemark {

class LayerSegmentWriterObject final : public Napi::ObjectWrap<LayerSegmentWriterObject> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit LayerSegmentWriterObject(const Napi::CallbackInfo& info);

 private:
  Napi::Value append(const Napi::CallbackInfo& info);
  Napi::Value zero(const Napi::CallbackInfo& info);
  Napi::Value finish(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);

  Handle<LayerSegmentWriter> handle_;
};

class LayerMergeObject final : public Napi::ObjectWrap<LayerMergeObject> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit LayerMergeObject(const Napi::CallbackInfo& info);

 private:
  Napi::Value step(const Napi::CallbackInfo& info);
  Napi::Value finish(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);

  Handle<LayerMerge> handle_;
};

// Module functions.
Napi::Value layer_segment_writer_js(const Napi::CallbackInfo& info);
Napi::Value seal_layer_js(const Napi::CallbackInfo& info);
Napi::Value verify_layer_js(const Napi::CallbackInfo& info);
Napi::Value merge_into_layer_js(const Napi::CallbackInfo& info);
Napi::Value merge_into_base_js(const Napi::CallbackInfo& info);

}  // namespace tidemark
