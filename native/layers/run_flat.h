// run_flat(): tasks that start each other, without a stack that grows.
//
// A completion often starts the next piece of work, which may complete inline
// and start the next. On each thread the outermost run_flat() runs what inner
// ones leave behind, one after another. Nothing in a task may wait for another.
#pragma once

namespace tidemark {

class FlatTask {
 public:
  // The task may delete itself in it.
  virtual void run() noexcept = 0;

 protected:
  virtual ~FlatTask() = default;

 private:
  friend void run_flat(FlatTask& task) noexcept;
  FlatTask* next_flat_ = nullptr;
};

void run_flat(FlatTask& task) noexcept;

}  // namespace tidemark
