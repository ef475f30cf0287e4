// Handle: a wrapper object's hold on the native object behind it.
//
// JavaScript thread only. Work under way keeps a Lease, which keeps the native
// object alive; close() takes the object away at once (later calls meet CLOSED)
// and waits, off the JavaScript thread, until the last lease has ended.
#pragma once

#include <napi.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <utility>

#include "addon/async_task.h"
#include "addon/errors.h"

namespace tidemark {

class LeaseCount {
 public:
  void add() {
    std::lock_guard lock(mutex_);
    ++count_;
  }
  void drop() {
    std::lock_guard lock(mutex_);
    if (--count_ == 0) zero_.notify_all();
  }
  void wait_for_zero() {
    std::unique_lock lock(mutex_);
    zero_.wait(lock, [this] { return count_ == 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable zero_;
  size_t count_ = 0;
};

template <typename T>
class Lease {
 public:
  Lease(std::shared_ptr<T> object, std::shared_ptr<LeaseCount> count)
      : object_(std::move(object)), count_(std::move(count)) {
    count_->add();
  }
  Lease(const Lease& other) : Lease(other.object_, other.count_) {}
  Lease& operator=(const Lease&) = delete;
  ~Lease() {
    object_.reset();
    count_->drop();
  }
  T* operator->() const { return object_.get(); }
  T& operator*() const { return *object_; }

 private:
  std::shared_ptr<T> object_;
  std::shared_ptr<LeaseCount> count_;
};

template <typename T>
class Handle {
 public:
  void set(std::shared_ptr<T> object) { object_ = std::move(object); }
  bool is_open() const { return object_ != nullptr; }

  T& get(Napi::Env env) const {
    require_open(env);
    return *object_;
  }
  std::shared_ptr<T> share(Napi::Env env) const {
    require_open(env);
    return object_;
  }
  Lease<T> lease(Napi::Env env) const {
    require_open(env);
    return Lease<T>(object_, count_);
  }
  std::shared_ptr<T> take(Napi::Env env) {
    require_open(env);
    return std::move(object_);
  }

  // `last` runs on a pool thread, after the last lease ended.
  Napi::Promise close(Napi::Env env, std::function<Status(std::shared_ptr<T>)> last) {
    // Moved, not copied: `last` may count who else holds the object.
    auto object = std::exchange(object_, nullptr);
    return run_status_task(env, [object = std::move(object), last, count = count_]() mutable -> Status {
      count->wait_for_zero();
      return object == nullptr ? Status::ok() : last(std::move(object));
    });
  }

 private:
  void require_open(Napi::Env env) const {
    if (object_ == nullptr) {
      throw to_js_error(env, Status(ErrorCode::kClosed, "Cannot use this object: it is closed."));
    }
  }

  std::shared_ptr<T> object_;
  std::shared_ptr<LeaseCount> count_ = std::make_shared<LeaseCount>();
};

}  // namespace tidemark
