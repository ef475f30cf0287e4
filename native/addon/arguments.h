// Checked access to positional arguments. lib/tracking names, defaults and
// validates; here only what would otherwise be undefined behaviour is refused.
#pragma once

#include <napi.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "bitmap/dirty_bitmap.h"
#include "common/uuid.h"

namespace tidemark {

uint64_t bytes_argument(const Napi::CallbackInfo& info, size_t index);
uint32_t uint32_argument(const Napi::CallbackInfo& info, size_t index);
bool bool_argument(const Napi::CallbackInfo& info, size_t index);
std::string string_argument(const Napi::CallbackInfo& info, size_t index);
std::vector<std::string> paths_argument(const Napi::CallbackInfo& info, size_t index);
Uuid uuid_argument(const Napi::CallbackInfo& info, size_t index);
std::span<std::byte> buffer_argument(const Napi::CallbackInfo& info, size_t index);
// [offset, length, ...] from a Float64Array.
std::vector<ByteExtent> extents_argument(const Napi::CallbackInfo& info, size_t index);

Napi::Value to_js_extents(Napi::Env env, const std::vector<ByteExtent>& extents);

}  // namespace tidemark
