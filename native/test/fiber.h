// A function with a stack of its own that pauses where it says so. All fibers of a
// test run on one thread: what they interleave is chosen, never left to chance.
#pragma once

#include <ucontext.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <utility>

#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#define TIDEMARK_FIBER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#include <sanitizer/tsan_interface.h>
#define TIDEMARK_FIBER_TSAN 1
#endif
#endif

namespace tidemark::simulation {

class Fiber {
 public:
  explicit Fiber(std::function<void()> body) : body_(std::move(body)) {
    ::getcontext(&own_);
    own_.uc_stack.ss_sp = stack_.get();
    own_.uc_stack.ss_size = kStackBytes;
    own_.uc_link = &resumer_;
    ::makecontext(&own_, &Fiber::begin, 0);
#ifdef TIDEMARK_FIBER_TSAN
    own_tsan_ = __tsan_create_fiber(0);
#endif
  }
  ~Fiber() {
#ifdef TIDEMARK_FIBER_TSAN
    __tsan_destroy_fiber(own_tsan_);
#endif
  }
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  bool is_done() const { return is_done_; }
  static Fiber* current() { return current_slot(); }

  // Until it pauses or ends. Not from within a fiber.
  void resume() {
    current_slot() = this;
#ifdef TIDEMARK_FIBER_TSAN
    resumer_tsan_ = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(own_tsan_, 0);
#endif
    ::swapcontext(&resumer_, &own_);
    current_slot() = nullptr;
  }
  // Of the running fiber.
  void pause() {
#ifdef TIDEMARK_FIBER_TSAN
    __tsan_switch_to_fiber(resumer_tsan_, 0);
#endif
    ::swapcontext(&own_, &resumer_);
  }

 private:
  static constexpr size_t kStackBytes = 256 * 1024;

  static Fiber*& current_slot() {
    static Fiber* current = nullptr;
    return current;
  }
  static void begin() {
    Fiber* const self = current();
    self->body_();
    self->is_done_ = true;
#ifdef TIDEMARK_FIBER_TSAN
    __tsan_switch_to_fiber(self->resumer_tsan_, 0);
#endif
  }

  std::function<void()> body_;
  const std::unique_ptr<std::byte[]> stack_{new std::byte[kStackBytes]};
  ucontext_t own_{};
  ucontext_t resumer_{};
  bool is_done_ = false;
#ifdef TIDEMARK_FIBER_TSAN
  void* own_tsan_ = nullptr;
  void* resumer_tsan_ = nullptr;
#endif
};

}  // namespace tidemark::simulation
