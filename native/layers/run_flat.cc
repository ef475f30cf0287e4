#include "layers/run_flat.h"

namespace tidemark {

namespace {

struct FlatQueue {
  bool running = false;
  FlatTask* head = nullptr;
  FlatTask* tail = nullptr;
};

thread_local FlatQueue queue;

}  // namespace

void run_flat(FlatTask& task) noexcept {
  task.next_flat_ = nullptr;
  if (queue.running) {
    (queue.head == nullptr ? queue.head : queue.tail->next_flat_) = &task;
    queue.tail = &task;
    return;
  }
  queue.running = true;
  FlatTask* current = &task;
  while (current != nullptr) {
    current->run();
    current = queue.head;
    if (current != nullptr) queue.head = current->next_flat_;
  }
  queue.running = false;
}

}  // namespace tidemark
