#pragma once

#include <napi.h>

namespace tidemark {

Napi::Value checkpoint_js(const Napi::CallbackInfo& info);

}  // namespace tidemark
