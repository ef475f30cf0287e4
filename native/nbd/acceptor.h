// Acceptor: takes connections off the listening socket, on one I/O thread, and
// gives each to the thread with the fewest.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "nbd/io_thread.h"
#include "nbd/listening_socket.h"

namespace tidemark::nbd {

class Acceptor : public PollHandler {
 public:
  using Threads = std::vector<std::unique_ptr<IoThread>>;

  // Runs on threads[0]; `threads` outlive it.
  Acceptor(ListeningSocket& listening_socket, const Threads& threads, uint32_t max_connections)
      : listening_socket_(listening_socket), threads_(threads), max_connections_(max_connections) {}

  // On the I/O thread. start() is idempotent.
  void start();
  void stop();
  void on_events(uint32_t events) override;

  uint64_t connections_total() const noexcept { return connections_total_.load(); }

 private:
  bool accept_one();  // false: none is waiting
  void pause();

  ListeningSocket& listening_socket_;
  const Threads& threads_;
  const uint32_t max_connections_;
  bool is_started_ = false;
  bool is_stopped_ = false;
  std::atomic<uint64_t> connections_total_{0};
};

}  // namespace tidemark::nbd
