// Runs blocking native work on a libuv pool thread and settles a promise on the
// JavaScript thread.
//
// The task owns everything the work needs (shared_ptrs by capture, JavaScript
// buffers by `keep`), so that the wrapper objects may be closed or collected
// meanwhile. Node waits for tasks under way before it tears an environment
// down; their promises are then not settled.
#pragma once

#include <napi.h>

#include <functional>
#include <optional>
#include <utility>

#include "addon/errors.h"
#include "common/status.h"

namespace tidemark {

struct Nothing {};

template <typename T>
class AsyncTask final : public Napi::AsyncWorker {
 public:
  using Work = std::function<Result<T>()>;
  using Convert = std::function<Napi::Value(Napi::Env, T&)>;

  static Napi::Promise run(Napi::Env env, Work work, Convert convert,
                           Napi::Value keep = Napi::Value()) {
    auto* task = new AsyncTask(env, std::move(work), std::move(convert));
    if (!keep.IsEmpty() && keep.IsObject()) {
      task->kept_ = Napi::Persistent(keep.As<Napi::Object>());
    }
    task->Queue();
    return task->deferred_.Promise();
  }

 protected:
  void Execute() override { result_.emplace(work_()); }

  void OnOK() override {
    Napi::HandleScope scope(Env());
    if (!result_->is_ok()) {
      deferred_.Reject(to_js_error(Env(), result_->status()).Value());
      return;
    }
    try {
      deferred_.Resolve(convert_(Env(), result_->value()));
    } catch (const Napi::Error& error) {
      deferred_.Reject(error.Value());
    }
  }

  void OnError(const Napi::Error& error) override { deferred_.Reject(error.Value()); }

 private:
  AsyncTask(Napi::Env env, Work work, Convert convert)
      : Napi::AsyncWorker(env, "tidemark"),
        deferred_(Napi::Promise::Deferred::New(env)),
        work_(std::move(work)),
        convert_(std::move(convert)) {}

  Napi::Promise::Deferred deferred_;
  Work work_;
  Convert convert_;
  Napi::ObjectReference kept_;
  std::optional<Result<T>> result_;
};

inline Napi::Promise run_status_task(Napi::Env env, std::function<Status()> work,
                                     Napi::Value keep = Napi::Value()) {
  return AsyncTask<Nothing>::run(
      env,
      [work = std::move(work)]() -> Result<Nothing> {
        Status status = work();
        if (!status.is_ok()) return status;
        return Nothing{};
      },
      [](Napi::Env task_env, Nothing&) { return task_env.Undefined(); }, keep);
}

}  // namespace tidemark
