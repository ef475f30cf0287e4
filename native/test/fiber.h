// A function with a stack of its own that pauses where it says so. All fibers of a
// test run on one thread: what they interleave is chosen, never left to chance.
//
// The sanitizers are told of every switch: each keeps something beside the stack
// (ASan the frames that outlive a return, TSan the calls that are under way). Between
// telling TSan and switching nothing may be entered or left.
#pragma once

#include <ucontext.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <utility>

#if defined(__SANITIZE_THREAD__)
#define TIDEMARK_FIBER_TSAN 1
#elif defined(__SANITIZE_ADDRESS__)
#define TIDEMARK_FIBER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TIDEMARK_FIBER_TSAN 1
#elif __has_feature(address_sanitizer)
#define TIDEMARK_FIBER_ASAN 1
#endif
#endif

#ifdef TIDEMARK_FIBER_TSAN
#include <sanitizer/tsan_interface.h>
#endif
#ifdef TIDEMARK_FIBER_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

namespace tidemark::simulation {

// What the sanitizers know of one side of a switch. Nothing without them.
class SwitchSide {
 public:
  // The thread's own stack, which is learnt when it is left.
  SwitchSide() = default;
  // A new stack's.
  SwitchSide(const void* stack, size_t stack_bytes) : stack_(stack), stack_bytes_(stack_bytes) {
#ifdef TIDEMARK_FIBER_TSAN
    tsan_ = created_ = __tsan_create_fiber(0);
#endif
  }
  ~SwitchSide() {
#ifdef TIDEMARK_FIBER_TSAN
    if (created_ != nullptr) __tsan_destroy_fiber(created_);
#endif
  }
  SwitchSide(const SwitchSide&) = delete;
  SwitchSide& operator=(const SwitchSide&) = delete;

  // Right before the switch to `other`. Who is `over` never comes back.
  [[gnu::always_inline]] void leave_for([[maybe_unused]] SwitchSide& other,
                                        [[maybe_unused]] bool is_over = false) {
#ifdef TIDEMARK_FIBER_ASAN
    __sanitizer_start_switch_fiber(is_over ? nullptr : &asan_, other.stack_, other.stack_bytes_);
#endif
#ifdef TIDEMARK_FIBER_TSAN
    if (created_ == nullptr) tsan_ = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(other.tsan_, 0);
#endif
  }
  // Right after it; `other` is where it came from.
  [[gnu::always_inline]] void arrive_from([[maybe_unused]] SwitchSide& other) {
#ifdef TIDEMARK_FIBER_ASAN
    __sanitizer_finish_switch_fiber(asan_, &other.stack_, &other.stack_bytes_);
#endif
  }

 private:
  [[maybe_unused]] const void* stack_ = nullptr;
  [[maybe_unused]] size_t stack_bytes_ = 0;
  [[maybe_unused]] void* asan_ = nullptr;
  [[maybe_unused]] void* tsan_ = nullptr;
  [[maybe_unused]] void* created_ = nullptr;
};

class Fiber {
 public:
  explicit Fiber(std::function<void()> body) : body_(std::move(body)) {
    ::getcontext(&own_);
    own_.uc_stack.ss_sp = stack_.get();
    own_.uc_stack.ss_size = kStackBytes;
    own_.uc_link = nullptr;  // it leaves by itself
    ::makecontext(&own_, &Fiber::begin, 0);
  }
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  bool is_done() const { return is_done_; }
  static Fiber* current() { return current_slot(); }

  // Until it pauses or ends. Not from within a fiber.
  void resume() {
    current_slot() = this;
    resumer_side_.leave_for(own_side_);
    ::swapcontext(&resumer_, &own_);
    resumer_side_.arrive_from(own_side_);
    current_slot() = nullptr;
  }
  // Of the running fiber.
  void pause() {
    own_side_.leave_for(resumer_side_);
    ::swapcontext(&own_, &resumer_);
    own_side_.arrive_from(resumer_side_);
  }

 private:
  static constexpr size_t kStackBytes = 256 * 1024;

  static Fiber*& current_slot() {
    static Fiber* current = nullptr;
    return current;
  }
  static void begin() {
    Fiber* const self = current();
    self->own_side_.arrive_from(self->resumer_side_);
    self->body_();
    self->is_done_ = true;
    self->own_side_.leave_for(self->resumer_side_, true);
    ::setcontext(&self->resumer_);
  }

  std::function<void()> body_;
  const std::unique_ptr<std::byte[]> stack_{new std::byte[kStackBytes]};
  ucontext_t own_{};
  ucontext_t resumer_{};
  bool is_done_ = false;
  SwitchSide own_side_{stack_.get(), kStackBytes};
  SwitchSide resumer_side_;
};

}  // namespace tidemark::simulation
