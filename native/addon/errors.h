#pragma once

#include <napi.h>

#include "common/status.h"

namespace tidemark {

// An Error with `code` (name_of) and, where the kernel gave one, `errno`.
Napi::Error to_js_error(Napi::Env env, const Status& status);

// Throws to_js_error unless ok. For synchronous methods.
void throw_unless_ok(Napi::Env env, const Status& status);

template <typename T>
T value_or_throw(Napi::Env env, Result<T> result) {
  throw_unless_ok(env, result.status());
  return std::move(result).value();
}

}  // namespace tidemark
