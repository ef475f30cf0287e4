#pragma once

#include <napi.h>

#include "addon/handle.h"
#include "tracking/capture.h"
#include "tracking/content_filter.h"
#include "tracking/known_content.h"

namespace tidemark {

// Main thread only; the filter that it gives a capture works in any.
class KnownContentObject final : public Napi::ObjectWrap<KnownContentObject> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit KnownContentObject(const Napi::CallbackInfo& info);

  // Of the capture that is to be the target's next point; ends the filter before.
  std::shared_ptr<ContentFilter> begin_filter(Napi::Env env, const Capture& capture);

 private:
  Napi::Value point_id(const Napi::CallbackInfo& info);
  Napi::Value settle(const Napi::CallbackInfo& info);
  Napi::Value drop(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);

  Handle<KnownContent> handle_;
  std::shared_ptr<ContentFilter> filter_;
};

KnownContentObject& known_content_argument(const Napi::CallbackInfo& info, size_t index);

// Module function.
Napi::Value open_known_content_js(const Napi::CallbackInfo& info);

}  // namespace tidemark
