// While one is alive, what its thread completes for other threads waits for its end.
//
// For a thread that submits many requests in a row. The threads that wait for the
// answers would wake at the first one, and take the cores for whatever their clients
// send next, while the rest of the row has not even been submitted.
#pragma once

#include <array>
#include <cstddef>

namespace tidemark {

class CompletionHold {
 public:
  // How a completion reaches the thread that waits for it.
  using PostFn = void (*)(void* mailbox, void* request) noexcept;

  CompletionHold() noexcept { current_ = this; }
  ~CompletionHold() {
    current_ = nullptr;
    post_all();
  }
  CompletionHold(const CompletionHold&) = delete;
  CompletionHold& operator=(const CompletionHold&) = delete;

  // This thread's; null: nothing is held. They do not nest.
  static CompletionHold* current() noexcept { return current_; }

  // Posts what it holds when it is full: nobody waits for a row of any length.
  void add(PostFn post, void* mailbox, void* request) noexcept {
    if (count_ == held_.size()) post_all();
    held_[count_++] = {post, mailbox, request};
  }

 private:
  struct Held {
    PostFn post;
    void* mailbox;
    void* request;
  };

  void post_all() noexcept {
    for (size_t i = 0; i < count_; ++i) held_[i].post(held_[i].mailbox, held_[i].request);
    count_ = 0;
  }

  static inline thread_local CompletionHold* current_ = nullptr;

  std::array<Held, 64> held_;
  size_t count_ = 0;
};

}  // namespace tidemark
