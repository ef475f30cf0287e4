#pragma once

#include <napi.h>

#include "addon/handle.h"
#include "nbd/nbd_server.h"

namespace tidemark {

class NbdServerObject final : public Napi::ObjectWrap<NbdServerObject> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit NbdServerObject(const Napi::CallbackInfo& info);

 private:
  Napi::Value address(const Napi::CallbackInfo& info);
  Napi::Value add_export(const Napi::CallbackInfo& info);
  Napi::Value remove_export(const Napi::CallbackInfo& info);
  Napi::Value client_count(const Napi::CallbackInfo& info);
  Napi::Value accept(const Napi::CallbackInfo& info);
  Napi::Value set_tls(const Napi::CallbackInfo& info);
  Napi::Value reconnect_clients(const Napi::CallbackInfo& info);
  Napi::Value statistics(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);

  Handle<NbdServer> handle_;
};

// Module functions.
Napi::Value start_nbd_server_js(const Napi::CallbackInfo& info);
Napi::Value reuse_port_socket_js(const Napi::CallbackInfo& info);

}  // namespace tidemark
