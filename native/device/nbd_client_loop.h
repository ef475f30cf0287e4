// NbdClientLoop: the thread of an NbdDevice, and all that it decides: what is
// sent, what waits, what is issued again after a loss.
//
// An operation is in one of three lists: waiting_ (no session, or the replay comes
// first), held_ (a write, until a flush has made room among the unflushed ones),
// running_. When the session is lost all of them wait, the oldest first.
#pragma once

#include <atomic>
#include <chrono>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "common/mutex.h"
#include "device/nbd_client_inbox.h"
#include "device/nbd_client_operation.h"
#include "device/nbd_unflushed_writes.h"

namespace tidemark {

class NbdClientLoop {
 public:
  NbdClientLoop(const NbdDeviceParameters& parameters, std::unique_ptr<NbdClientSession> session);
  ~NbdClientLoop();

  NbdClientInbox& inbox() noexcept { return inbox_; }
  NbdUpstreamStatus status() const;
  uint64_t loss_count() const noexcept { return loss_count_.load(); }

  // Until inbox().stop(). On the device's thread.
  void run();

 private:
  using Clock = std::chrono::steady_clock;
  using Operations = std::list<NbdClientOperation>;
  using Kind = NbdClientOperation::Kind;

  // One round.
  void wait();
  void receive();
  void take_inbox();
  void pump();

  // Operations.
  void add(Kind kind, IoRequest* request, std::shared_ptr<NbdExtentQuery> query = nullptr);
  void start_waiting();
  void start_held();
  void start(NbdClientOperation& operation, Operations& from);
  void flush_for_room();
  bool must_hold(const NbdClientOperation& operation) const noexcept;
  bool keeps_writes() const noexcept { return description_.has(nbd::kFlagSendFlush); }

  void finish_part(NbdClientPart& part);
  void finish(NbdClientOperation& operation);
  int settle_request(const NbdClientOperation& operation);
  void settle_flush(const NbdClientOperation& operation) noexcept;
  void retire(NbdClientOperation& operation, Operations& from) noexcept;
  void fail(Operations& operations, int error);

  // The session's life.
  void lose(const std::string& why, bool is_violation);
  void suspend(NbdClientOperation& operation, Operations& failed);
  void reconnect();
  Status check_successor(const NbdExportDescription& successor) const;
  void adopt(std::unique_ptr<NbdClientSession> session);
  void replay_more();
  void flush_replayed();
  void expire();
  void retry_later() noexcept;
  Clock::time_point expiry_of(const NbdClientOperation& operation) const noexcept;
  Clock::time_point next_expiry() const noexcept;
  bool is_ready() const noexcept { return session_ != nullptr && !is_replaying_; }
  int timeout_ms();
  void publish(bool is_connected, const std::string& error);

  const NbdDeviceParameters parameters_;
  const NbdExportDescription description_;  // as the device was opened
  NbdClientInbox inbox_;

  // The thread's own.
  std::unique_ptr<NbdClientSession> session_;
  std::vector<pollfd> polls_;
  Operations waiting_, held_, running_, unused_;
  NbdUnflushedWrites unflushed_;
  uint64_t running_write_bytes_ = 0;  // what running writes will add to it
  bool has_own_flush_ = false;
  IoRequest own_flush_request_;
  int writeback_error_ = 0;  // an answered write is lost: the next flush says so

  bool is_replaying_ = false;
  bool is_replay_careful_ = false;  // the session before ended in the middle of it
  size_t replay_next_ = 0;
  size_t replay_left_count_ = 0;
  std::vector<IoRequest> replay_requests_;

  uint32_t connection_limit_;
  Clock::time_point connected_at_;
  Clock::time_point lost_at_;
  Clock::time_point retry_at_;
  uint32_t attempt_count_ = 0;  // since an upstream last answered a request
  bool is_refused_ = false;     // what came back is not our upstream

  std::atomic<uint64_t> loss_count_{0};
  std::atomic<uint64_t> reissued_count_{0};
  std::atomic<uint64_t> replayed_count_{0};
  mutable Mutex status_mutex_;
  NbdUpstreamStatus status_ GUARDED_BY(status_mutex_);
};

}  // namespace tidemark
