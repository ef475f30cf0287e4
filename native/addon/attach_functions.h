#pragma once

#include <napi.h>

#include "addon/handle.h"
#include "attach/link_keeper.h"

namespace tidemark {

class LinkKeeperObject final : public Napi::ObjectWrap<LinkKeeperObject> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit LinkKeeperObject(const Napi::CallbackInfo& info);

 private:
  Napi::Value close(const Napi::CallbackInfo& info);

  Handle<attach::LinkKeeper> handle_;
};

// Kernel block devices: module functions.
void add_attach_functions(Napi::Env env, Napi::Object exports);

}  // namespace tidemark
