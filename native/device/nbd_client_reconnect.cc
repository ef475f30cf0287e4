// NbdClientLoop between two sessions: what was lost, whether the successor is the
// same disk, and what it has to be told again.
#include <algorithm>
#include <cerrno>

#include "device/nbd_client_loop.h"
#include "device/nbd_uri.h"

namespace tidemark {

namespace {

using namespace std::chrono_literals;

constexpr auto kFirstDelay = 10ms;
constexpr auto kLongestDelay = 1000ms;
constexpr auto kShortestAttempt = 100ms;
// A session that held so long without a request was a good one all the same.
constexpr auto kSettledTime = 5s;
// A request whose session ended so often for what the server sent gets an error.
constexpr uint32_t kMaximumViolations = 3;

Status changed(const char* what) {
  return {ErrorCode::kForeign, std::string("the server came back with another disk: ") + what};
}

}  // namespace

void NbdClientLoop::lose(const std::string& why, bool is_violation) {
  const std::string reason = why;  // the session's own text
  const bool was_good = attempt_count_ == 0 || Clock::now() - connected_at_ > kSettledTime;
  session_.reset();
  is_replay_careful_ = is_replaying_;
  is_replaying_ = false;
  has_own_flush_ = false;
  running_write_bytes_ = 0;
  if (was_good) {
    attempt_count_ = 0;
    lost_at_ = Clock::now();
  }
  retry_at_ = Clock::now();
  if (attempt_count_ > 0) retry_later();
  if (unflushed_.is_incomplete()) writeback_error_ = EIO;
  loss_count_.fetch_add(1);
  publish(false, reason);

  Operations failed;
  for (auto next = running_.begin(); next != running_.end();) {
    NbdClientOperation& operation = *next++;
    if (is_violation) ++operation.violation_count;
    suspend(operation, failed);
  }
  waiting_.splice(waiting_.begin(), held_);
  waiting_.splice(waiting_.begin(), running_);
  fail(failed, EIO);
}

// Leaves in running_ what is to be issued again.
void NbdClientLoop::suspend(NbdClientOperation& operation, Operations& failed) {
  if (operation.kind != Kind::kRequest) {
    if (operation.query) operation.query->answer({});
    retire(operation, running_);
  } else if (operation.violation_count >= kMaximumViolations) {
    failed.splice(failed.end(), running_, operation.self);
  } else if (!operation.lost_at) {
    operation.lost_at = Clock::now();
  }
}

void NbdClientLoop::retry_later() noexcept {
  const auto delay = kFirstDelay * (1 << std::min(attempt_count_, 10U));
  retry_at_ = Clock::now() + std::min<Clock::duration>(delay, kLongestDelay);
}

void NbdClientLoop::reconnect() {
  ++attempt_count_;
  const auto now = Clock::now();
  const auto deadline = std::max<Clock::time_point>(
      now + kShortestAttempt, std::min(now + parameters_.connect_limit, next_expiry()));
  auto session =
      NbdClientSession::open(parameters_, connection_limit_, {deadline, inbox_.stop_fd()});
  retry_later();
  if (!session.is_ok()) return publish(false, session.status().message());
  const Status status = check_successor(session.value()->description());
  is_refused_ = !status.is_ok();
  if (is_refused_) return publish(false, status.message());
  adopt(std::move(session.value()));
}

// What the device's users were told must stay true.
Status NbdClientLoop::check_successor(const NbdExportDescription& successor) const {
  if (successor.size_bytes < description_.size_bytes) return changed("it is smaller");
  if (!parameters_.read_only && successor.has(nbd::kFlagReadOnly))
    return changed("it is read-only");
  if (keeps_writes() && !successor.has(nbd::kFlagSendFlush)) return changed("it cannot flush");
  if (successor.minimum_block_bytes > description_.minimum_block_bytes) {
    return changed("its minimum block is larger");
  }
  const auto zeroes_trims = [](const NbdExportDescription& it) {
    return it.has(nbd::kFlagSendWriteZeroes) && it.has(nbd::kFlagSendFastZero);
  };
  if (zeroes_trims(description_) && !zeroes_trims(successor)) {
    return changed("it cannot zero as quickly");
  }
  return Status::ok();
}

void NbdClientLoop::adopt(std::unique_ptr<NbdClientSession> session) {
  session_ = std::move(session);
  if (session_->is_at_server_limit()) {
    connection_limit_ = static_cast<uint32_t>(session_->connection_count());
  }
  connected_at_ = Clock::now();
  is_replaying_ = !unflushed_.is_empty();
  replay_next_ = replay_left_count_ = 0;
  publish(true, {});
}

// One batch after another, each of writes that do not overlap: their order among
// each other is the answers' order. Where the last server did not live to the end
// of it, each batch is made durable, so that the next one has less to do.
void NbdClientLoop::replay_more() {
  while (replay_left_count_ == 0) {
    if (is_replay_careful_ && replay_next_ > 0) return flush_replayed();
    const size_t count = unflushed_.independent_count(replay_next_);
    is_replaying_ = count > 0;
    if (!is_replaying_) return;
    replay_requests_.assign(count, {});
    replay_left_count_ = count;
    for (size_t i = 0; i < count; ++i) {
      const NbdUnflushedWrites::Entry& entry = unflushed_.entry(replay_next_ + i);
      IoRequest& request = replay_requests_[i];
      request.op = entry.op;
      request.flags = entry.flags;
      request.offset_bytes = entry.offset_bytes;
      request.length_bytes = entry.length_bytes;
      request.data = entry.data.get();
    }
    replay_next_ += count;
    replayed_count_.fetch_add(count, std::memory_order_relaxed);
    for (IoRequest& request : replay_requests_) {
      add(Kind::kReplay, &request);
      start(waiting_.back(), waiting_);
    }
  }
}

void NbdClientLoop::flush_replayed() {
  has_own_flush_ = true;
  replay_left_count_ = 1;
  add(Kind::kOwnFlush, &own_flush_request_);
  NbdClientOperation& operation = waiting_.back();
  start(operation, waiting_);
  operation.flush_covers = unflushed_.number_of(replay_next_);
}

NbdClientLoop::Clock::time_point NbdClientLoop::expiry_of(
    const NbdClientOperation& operation) const noexcept {
  if (parameters_.reconnect_limit.count() == 0) return Clock::time_point::max();
  const auto since = operation.lost_at ? std::min(lost_at_, *operation.lost_at) : lost_at_;
  return since + parameters_.reconnect_limit;
}

NbdClientLoop::Clock::time_point NbdClientLoop::next_expiry() const noexcept {
  auto next = Clock::time_point::max();
  for (const NbdClientOperation& operation : waiting_) next = std::min(next, expiry_of(operation));
  return next;
}

void NbdClientLoop::expire() {
  if (session_ != nullptr) return;
  Operations expired;
  const auto now = Clock::now();
  for (auto next = waiting_.begin(); next != waiting_.end();) {
    NbdClientOperation& operation = *next++;
    if (!is_refused_ && expiry_of(operation) > now) continue;
    expired.splice(expired.end(), waiting_, operation.self);
  }
  fail(expired, EIO);
}

}  // namespace tidemark
