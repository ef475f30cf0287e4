// IoThread: one epoll loop with its connections.
//
// A round: wait and handle events, finish requests that other threads
// completed, run tasks and timers, pump the connections that became dirty,
// destroy the closed ones.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <thread>
#include <unordered_map>
#include <vector>

#include "common/fd.h"
#include "common/mutex.h"
#include "common/status.h"
#include "device/loop_ring.h"
#include "nbd/busy_poll.h"
#include "nbd/connection.h"
#include "nbd/export_registry.h"
#include "nbd/loop_context.h"

namespace tidemark::nbd {

struct LoopLimits {
  std::chrono::milliseconds handshake_limit;
  std::chrono::milliseconds idle_limit;        // 0: none
  std::chrono::milliseconds buffer_keep_time;  // 0: they are never given back
  std::chrono::microseconds busy_poll;         // 0: none
};

class IoThread {
 public:
  // `tls` null: none. Both outlive the thread.
  static Result<std::unique_ptr<IoThread>> start(const ExportRegistry& exports, TlsSettings* tls,
                                                 const LoopLimits& limits);
  ~IoThread();  // stop() and join()

  // Any thread. A task runs on the loop's thread, in the order of posting;
  // never after the loop has ended.
  void post(std::function<void()> task);
  void adopt(UniqueFd socket_fd);
  void end_connections_of(std::shared_ptr<ServedExport> served);
  void shut_down_connections_of(std::shared_ptr<ServedExport> served);
  void reserve_buffers() {
    post([this] { loop_.chunks.reserve(); });
  }
  void stop();  // no more than a post
  void join();

  uint32_t connection_count() const noexcept { return connection_count_.load(); }
  uint64_t requests_total() const noexcept { return loop_.requests_total.value(); }
  uint64_t errors_total() const noexcept { return loop_.errors_total.value(); }

  // The loop's own thread.
  Poller& poller() noexcept { return loop_.poller; }
  void call_after(std::chrono::milliseconds delay, std::function<void()> task);

 private:
  // Wakes the loop; there is nothing else to do.
  class WakeUpHandler : public PollHandler {
   public:
    explicit WakeUpHandler(WakeUp& wake_up) : wake_up_(wake_up) {}
    void on_events(uint32_t) override { wake_up_.clear(); }

   private:
    WakeUp& wake_up_;
  };

  // Finishes what the thread's own ring has done.
  class RingHandler : public PollHandler {
   public:
    explicit RingHandler(LoopRing* ring) : ring_(ring) {}
    void on_events(uint32_t) override { ring_->reap(); }

   private:
    LoopRing* const ring_;
  };

  IoThread(const ExportRegistry& exports, TlsSettings* tls, const LoopLimits& limits);

  void run();
  void run_rounds(LoopRing* ring);
  void flush_ring(LoopRing& ring);
  void wait();
  bool poll_briefly();
  int timeout_ms() const;
  void finish_completions();
  void run_tasks();
  void run_timers();
  void pump_dirty();
  void pump_delivering();
  void look_for_silence();
  void keep_buffers_for_a_while();
  void abandon_connections_of(const ServedExport& served);
  void destroy_closed();
  void open(UniqueFd socket_fd);
  void begin_stop();
  bool has_tasks();

  const ExportRegistry& exports_;
  TlsSettings* const tls_;
  const LoopLimits limits_;

  // The loop thread's.
  BusyPoll busy_poll_;
  LoopContext loop_;
  WakeUpHandler wake_up_handler_{loop_.wake_up};
  std::unordered_map<uint64_t, std::unique_ptr<Connection>> connections_;  // by number
  uint64_t next_number_ = 1;
  bool is_stopping_ = false;
  bool is_trim_due_ = false;  // a timer is set

  Mutex mutex_;
  std::vector<std::function<void()>> tasks_ GUARDED_BY(mutex_);

  std::atomic<uint32_t> connection_count_{0};  // adopted and not destroyed
  std::thread thread_;
};

}  // namespace tidemark::nbd
