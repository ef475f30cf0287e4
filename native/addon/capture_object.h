#pragma once

#include <napi.h>

#include "addon/handle.h"
#include "tracking/capture.h"
#include "tracking/content_filter.h"

namespace tidemark {

// Wrappers of one capture may exist in several threads; the native capture is
// shared, and its own threads rules hold. The first close() ends it.
class CaptureObject final : public Napi::ObjectWrap<CaptureObject> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit CaptureObject(const Napi::CallbackInfo& info);

 private:
  Napi::Value id(const Napi::CallbackInfo& info);
  Napi::Value disk_size_bytes(const Napi::CallbackInfo& info);
  Napi::Value granularity_bytes(const Napi::CallbackInfo& info);
  Napi::Value dirty_bytes(const Napi::CallbackInfo& info);
  Napi::Value extents(const Napi::CallbackInfo& info);
  // A device that reads as the disk was at the cut.
  Napi::Value device(const Napi::CallbackInfo& info);
  Napi::Value read(const Napi::CallbackInfo& info);
  // read() without what the filter knows; answers where what is left of it lies.
  Napi::Value read_changed(const Napi::CallbackInfo& info);
  // From now on, in every thread, by what this KnownContent knows.
  Napi::Value filter_by(const Napi::CallbackInfo& info);
  Napi::Value release(const Napi::CallbackInfo& info);
  Napi::Value broken_reason(const Napi::CallbackInfo& info);
  Napi::Value saved_bytes(const Napi::CallbackInfo& info);
  // Lets go of the capture without ending it: for threads that attached.
  Napi::Value detach(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);

  Handle<Capture> handle_;
  std::shared_ptr<ContentFilter> filter_;  // of who attached; null: none
  uint64_t id_ = 0;
};

Napi::Object new_capture_object(Napi::Env env, std::shared_ptr<Capture> capture);

// Module function: the capture of that id, from any thread of the process.
Napi::Value attach_capture_js(const Napi::CallbackInfo& info);

}  // namespace tidemark
