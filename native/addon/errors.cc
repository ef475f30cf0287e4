#include "addon/errors.h"

namespace tidemark {

Napi::Error to_js_error(Napi::Env env, const Status& status) {
  Napi::Error error = Napi::Error::New(env, status.message());
  error.Set("code", Napi::String::New(env, name_of(status.code())));
  if (status.sys_errno() != 0) error.Set("errno", Napi::Number::New(env, status.sys_errno()));
  return error;
}

void throw_unless_ok(Napi::Env env, const Status& status) {
  if (!status.is_ok()) throw to_js_error(env, status);
}

}  // namespace tidemark
