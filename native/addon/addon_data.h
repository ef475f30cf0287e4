#pragma once

#include <napi.h>

namespace tidemark {

// What one environment (the main thread, a worker) keeps: its own constructors.
struct AddonData {
  Napi::FunctionReference device;
  Napi::FunctionReference fault_device;
  Napi::FunctionReference exchangeable_device;
  Napi::FunctionReference layered_device;
  Napi::FunctionReference fold;
  Napi::FunctionReference tracked_device;
  Napi::FunctionReference capture;
  Napi::FunctionReference known_content;
  Napi::FunctionReference nbd_server;
  Napi::FunctionReference link_keeper;
  Napi::FunctionReference layer_segment_writer;
  Napi::FunctionReference layer;
  Napi::FunctionReference layer_merge;
  Napi::FunctionReference scratch_budget;
  Napi::FunctionReference xxh3;

  static AddonData& of(Napi::Env env) { return *env.GetInstanceData<AddonData>(); }
};

// Makes a wrapper around `object`: the constructors take nothing else, so that
// JavaScript cannot make one by itself.
template <typename T>
Napi::Object wrap_new(Napi::Env env, Napi::FunctionReference& constructor,
                      std::shared_ptr<T> object) {
  return constructor.New({Napi::External<std::shared_ptr<T>>::New(env, &object)});
}

template <typename T>
std::shared_ptr<T> unwrap_external(const Napi::CallbackInfo& info) {
  if (info.Length() != 1 || !info[0].IsExternal()) {
    throw Napi::TypeError::New(info.Env(), "Cannot construct this class directly.");
  }
  return *info[0].As<Napi::External<std::shared_ptr<T>>>().Data();
}

}  // namespace tidemark
