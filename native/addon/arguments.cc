#include "addon/arguments.h"

#include <cmath>

#include "addon/errors.h"

namespace tidemark {

namespace {

constexpr double kMaxSafeInteger = 9007199254740991.0;

[[noreturn]] void refuse(const Napi::CallbackInfo& info, size_t index, const char* expected) {
  throw to_js_error(info.Env(), Status(ErrorCode::kInvalidArgument,
                                       "Cannot use argument " + std::to_string(index + 1) +
                                           ": it is not " + expected + "."));
}

bool is_byte_count(double value) {
  return value >= 0 && value <= kMaxSafeInteger && value == std::floor(value);
}

}  // namespace

uint64_t bytes_argument(const Napi::CallbackInfo& info, size_t index) {
  if (!info[index].IsNumber()) refuse(info, index, "a number of bytes");
  const double value = info[index].As<Napi::Number>().DoubleValue();
  if (!is_byte_count(value)) refuse(info, index, "a whole number from 0 to 2^53 - 1");
  return static_cast<uint64_t>(value);
}

uint32_t uint32_argument(const Napi::CallbackInfo& info, size_t index) {
  const uint64_t value = bytes_argument(info, index);
  if (value > UINT32_MAX) refuse(info, index, "a number below 2^32");
  return static_cast<uint32_t>(value);
}

bool bool_argument(const Napi::CallbackInfo& info, size_t index) {
  if (!info[index].IsBoolean()) refuse(info, index, "a boolean");
  return info[index].As<Napi::Boolean>().Value();
}

std::string string_argument(const Napi::CallbackInfo& info, size_t index) {
  if (!info[index].IsString()) refuse(info, index, "a string");
  return info[index].As<Napi::String>().Utf8Value();
}

Uuid uuid_argument(const Napi::CallbackInfo& info, size_t index) {
  const auto uuid = Uuid::parse(string_argument(info, index));
  if (!uuid) refuse(info, index, "a UUID");
  return *uuid;
}

std::span<std::byte> buffer_argument(const Napi::CallbackInfo& info, size_t index) {
  if (!info[index].IsTypedArray()) refuse(info, index, "a Uint8Array");
  const auto array = info[index].As<Napi::TypedArray>();
  if (array.TypedArrayType() != napi_uint8_array) refuse(info, index, "a Uint8Array");
  auto bytes = array.As<Napi::Uint8Array>();
  return {reinterpret_cast<std::byte*>(bytes.Data()), bytes.ByteLength()};
}

std::vector<ByteExtent> extents_argument(const Napi::CallbackInfo& info, size_t index) {
  if (!info[index].IsTypedArray()) refuse(info, index, "a Float64Array");
  const auto array = info[index].As<Napi::TypedArray>();
  if (array.TypedArrayType() != napi_float64_array || array.ElementLength() % 2 != 0) {
    refuse(info, index, "a Float64Array of pairs");
  }
  const double* values = array.As<Napi::Float64Array>().Data();
  std::vector<ByteExtent> extents(array.ElementLength() / 2);
  for (size_t i = 0; i < extents.size(); ++i) {
    if (!is_byte_count(values[2 * i]) || !is_byte_count(values[2 * i + 1])) {
      refuse(info, index, "made of byte counts");
    }
    extents[i] = {static_cast<uint64_t>(values[2 * i]), static_cast<uint64_t>(values[2 * i + 1])};
  }
  return extents;
}

Napi::Value to_js_extents(Napi::Env env, const std::vector<ByteExtent>& extents) {
  auto array = Napi::Float64Array::New(env, extents.size() * 2);
  for (size_t i = 0; i < extents.size(); ++i) {
    array[2 * i] = static_cast<double>(extents[i].offset_bytes);
    array[2 * i + 1] = static_cast<double>(extents[i].length_bytes);
  }
  return array;
}

std::vector<std::string> paths_argument(const Napi::CallbackInfo& info, size_t index) {
  const Napi::Array array = info[index].As<Napi::Array>();
  std::vector<std::string> paths;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    paths.push_back(array.Get(i).As<Napi::String>().Utf8Value());
  }
  return paths;
}

}  // namespace tidemark
