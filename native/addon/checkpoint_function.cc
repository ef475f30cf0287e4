#include "addon/checkpoint_function.h"

#include "addon/capture_object.h"
#include "addon/tracked_device_object.h"
#include "tracking/checkpoint.h"

namespace tidemark {

namespace {

TrackedDeviceObject& tracked_argument(Napi::Env env, const Napi::Value& value) {
  if (value.IsObject() &&
      value.As<Napi::Object>().InstanceOf(AddonData::of(env).tracked_device.Value())) {
    return *TrackedDeviceObject::Unwrap(value.As<Napi::Object>());
  }
  throw to_js_error(env, Status(ErrorCode::kInvalidArgument,
                                "Cannot use this value: it is not a tracked device."));
}

CheckpointOptions checkpoint_options(const Napi::Object& options) {
  CheckpointOptions parsed;
  parsed.drain_limit = std::chrono::milliseconds(
      static_cast<int64_t>(options.Get("drainLimitMs").As<Napi::Number>().Int64Value()));
  parsed.with_captures = options.Get("withCaptures").As<Napi::Boolean>().Value();
  const int64_t limit_bytes = options.Get("limitBytes").As<Napi::Number>().Int64Value();
  if (limit_bytes > 0) parsed.limit_bytes = static_cast<uint64_t>(limit_bytes);
  return parsed;
}

CaptureLimits capture_limits(const Napi::Object& options, uint32_t member_index) {
  CaptureLimits limits;
  limits.memory_bytes =
      static_cast<uint64_t>(options.Get("captureMemoryBytes").As<Napi::Number>().Int64Value());
  limits.spill_bytes =
      static_cast<uint64_t>(options.Get("spillBytes").As<Napi::Number>().Int64Value());
  const std::string spill_path = options.Get("spillPath").As<Napi::String>().Utf8Value();
  if (!spill_path.empty()) limits.spill_path = spill_path + "." + std::to_string(member_index);
  return limits;
}

Napi::Value to_js_checkpoint(Napi::Env env, CheckpointOutcome& outcome) {
  Napi::Array captures = Napi::Array::New(env, outcome.captures.size());
  for (uint32_t i = 0; i < outcome.captures.size(); ++i) {
    captures[i] = new_capture_object(env, outcome.captures[i]);
  }
  Napi::Object object = Napi::Object::New(env);
  object.Set("pauseNs", static_cast<double>(outcome.pause_ns));
  object.Set("requestsInFlight", outcome.requests_in_flight);
  object.Set("captures", captures);
  return object;
}

}  // namespace

Napi::Value checkpoint_js(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Napi::Array disks = info[0].As<Napi::Array>();
  const Napi::Array slots = info[1].As<Napi::Array>();
  const Napi::Object js_options = info[2].As<Napi::Object>();
  const CheckpointOptions options = checkpoint_options(js_options);
  std::vector<CheckpointMember> members;
  std::vector<Lease<TrackedDevice>> leases;
  for (uint32_t i = 0; i < disks.Length(); ++i) {
    TrackedDeviceObject& disk = tracked_argument(env, disks.Get(i));
    const uint32_t slot = slots.Get(i).As<Napi::Number>().Uint32Value();
    const bool is_whole = js_options.Get("wholeDisk").ToBoolean().Value();
    members.push_back({disk.share(env), slot, capture_limits(js_options, i),
                       is_whole ? CaptureScope::kWholeDisk : CaptureScope::kChanged});
    leases.push_back(disk.lease(env));
  }
  return AsyncTask<CheckpointOutcome>::run(
      env,
      [members, leases, options]() mutable {
        auto outcome = take_checkpoint(members, options);
        members.clear();
        return outcome;
      },
      to_js_checkpoint);
}

}  // namespace tidemark
