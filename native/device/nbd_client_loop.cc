#include "device/nbd_client_loop.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "device/io_engine.h"

namespace tidemark {

NbdClientLoop::NbdClientLoop(const NbdDeviceParameters& parameters,
                             std::unique_ptr<NbdClientSession> session)
    : parameters_(parameters),
      description_(session->description()),
      connection_limit_(std::max(parameters.connection_count, 1U)) {
  own_flush_request_.op = IoOp::kFlush;
  adopt(std::move(session));
}

NbdClientLoop::~NbdClientLoop() {
  for (const auto& query : inbox_.take_queries()) query->answer({});
  for (const NbdClientOperation& operation : running_) {
    if (operation.query) operation.query->answer({});
  }
}

NbdUpstreamStatus NbdClientLoop::status() const {
  NbdUpstreamStatus status;
  {
    const MutexLock lock(status_mutex_);
    status = status_;
  }
  status.loss_count = loss_count_.load();
  status.reissued_count = reissued_count_.load();
  status.replayed_count = replayed_count_.load();
  return status;
}

void NbdClientLoop::publish(bool is_connected, const std::string& error) {
  const MutexLock lock(status_mutex_);
  status_.is_connected = is_connected;
  status_.connection_count = is_connected ? static_cast<uint32_t>(session_->connection_count()) : 0;
  if (!error.empty()) status_.last_error = error;
}

void NbdClientLoop::run() {
  enter_io_thread("tidemark-nbdc");
  while (!inbox_.is_stopped()) {
    wait();
    receive();
    take_inbox();
    if (inbox_.is_given_up()) {
      if (session_ != nullptr) lose("the device is being closed", false);
      fail(waiting_, ESHUTDOWN);
    } else if (session_ == nullptr) {
      if (Clock::now() >= retry_at_) reconnect();
      expire();
    }
    pump();
  }
}

void NbdClientLoop::wait() {
  polls_.clear();
  polls_.push_back({inbox_.wake_fd(), POLLIN, 0});
  if (session_ != nullptr) session_->append_polls(polls_);
  inbox_.arm();
  const int count = ::poll(polls_.data(), polls_.size(), timeout_ms());
  inbox_.disarm();
  if (count <= 0) {
    for (pollfd& poll : polls_) poll.revents = 0;
  }
  if (polls_[0].revents != 0) inbox_.clear_wake();
}

int NbdClientLoop::timeout_ms() {
  if (!inbox_.is_empty() || inbox_.is_stopped()) return 0;
  if (inbox_.is_given_up()) return session_ != nullptr || !waiting_.empty() ? 0 : -1;
  if (session_ != nullptr) return -1;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(
      std::min(retry_at_, next_expiry()) - Clock::now());
  return static_cast<int>(std::clamp<int64_t>(left.count(), 0, 60'000));
}

void NbdClientLoop::receive() {
  if (session_ == nullptr) return;
  NbdPartQueue finished;
  const auto health = session_->receive(std::span(polls_).subspan(1), finished);
  while (NbdClientPart* part = finished.pop()) finish_part(*part);
  if (health != NbdClientSession::Health::kGood) {
    lose(session_->why(), health == NbdClientSession::Health::kViolation);
  }
}

void NbdClientLoop::take_inbox() {
  IoRequest* request = inbox_.take_requests();
  while (request != nullptr) {
    IoRequest* next = request->next;
    add(Kind::kRequest, request);
    request = next;
  }
  for (auto& query : inbox_.take_queries()) {
    if (is_ready()) {
      add(Kind::kExtents, nullptr, std::move(query));
    } else {
      query->answer({});
    }
  }
}

void NbdClientLoop::pump() {
  if (session_ == nullptr) return;
  if (is_replaying_) replay_more();
  if (is_ready()) {
    start_held();
    start_waiting();
    flush_for_room();
  }
  if (session_->pump() != NbdClientSession::Health::kGood) lose(session_->why(), false);
}

// ---- Operations --------------------------------------------------------------

void NbdClientLoop::add(Kind kind, IoRequest* request, std::shared_ptr<NbdExtentQuery> query) {
  if (unused_.empty()) {
    unused_.emplace_back();
    unused_.front().self = unused_.begin();
  }
  NbdClientOperation& operation = unused_.front();
  operation.kind = kind;
  operation.request = request;
  operation.query = std::move(query);
  operation.violation_count = 0;
  operation.lost_at.reset();
  operation.reset();
  waiting_.splice(waiting_.end(), unused_, operation.self);
}

void NbdClientLoop::start_waiting() {
  while (!waiting_.empty()) {
    NbdClientOperation& operation = waiting_.front();
    if (must_hold(operation)) {
      held_.splice(held_.end(), waiting_, operation.self);
    } else {
      start(operation, waiting_);
    }
  }
}

void NbdClientLoop::start_held() {
  while (!held_.empty() && !must_hold(held_.front())) start(held_.front(), held_);
}

bool NbdClientLoop::must_hold(const NbdClientOperation& operation) const noexcept {
  if (!operation.is_write_class() || !keeps_writes()) return false;
  const uint64_t present_bytes = unflushed_.kept_bytes() + running_write_bytes_;
  const uint64_t more_bytes = NbdUnflushedWrites::cost_bytes(*operation.request);
  return present_bytes > 0 && present_bytes + more_bytes > parameters_.unflushed_limit_bytes;
}

// Half of the room is left for what comes while the flush is under way.
void NbdClientLoop::flush_for_room() {
  const bool is_half_full = unflushed_.kept_bytes() >= parameters_.unflushed_limit_bytes / 2;
  if (has_own_flush_ || unflushed_.is_empty() || (held_.empty() && !is_half_full)) return;
  has_own_flush_ = true;
  add(Kind::kOwnFlush, &own_flush_request_);
  start(waiting_.back(), waiting_);
}

void NbdClientLoop::start(NbdClientOperation& operation, Operations& from) {
  running_.splice(running_.end(), from, operation.self);
  if (operation.lost_at) reissued_count_.fetch_add(1, std::memory_order_relaxed);
  if (operation.kind == Kind::kRequest && operation.is_write_class()) {
    running_write_bytes_ += NbdUnflushedWrites::cost_bytes(*operation.request);
  }
  operation.flush_covers = unflushed_.next_number();
  issue_nbd_operation(operation, *session_);
  if (operation.parts_left == 0) finish(operation);
}

void NbdClientLoop::finish_part(NbdClientPart& part) {
  NbdClientOperation& operation = *part.operation;
  attempt_count_ = 0;
  if (operation.kind == Kind::kExtents && part.error == 0) {
    operation.query->answer(nbd_extents_of(part, *operation.query));
    operation.query.reset();
  }
  if (finish_nbd_part(part, *session_)) finish(operation);
}

void NbdClientLoop::finish(NbdClientOperation& operation) {
  IoRequest* done = nullptr;
  int error = operation.error;
  switch (operation.kind) {
    case Kind::kRequest:
      done = operation.request;
      error = settle_request(operation);
      break;
    case Kind::kOwnFlush:
      has_own_flush_ = false;
      settle_flush(operation);
      if (error != 0) writeback_error_ = EIO;
      if (is_replaying_) replay_next_ = replay_left_count_ = 0;
      break;
    case Kind::kReplay:
      --replay_left_count_;
      if (error != 0) writeback_error_ = EIO;
      break;
    case Kind::kExtents:
      if (operation.query) operation.query->answer({});
      break;
  }
  retire(operation, running_);
  if (done != nullptr) done->complete(error);
}

// Before the completion: the data is the owner's again after it.
int NbdClientLoop::settle_request(const NbdClientOperation& operation) {
  const IoRequest& request = *operation.request;
  if (request.is_write_class()) {
    running_write_bytes_ -= NbdUnflushedWrites::cost_bytes(request);
    if (operation.error == 0 && keeps_writes()) unflushed_.add(request);
  }
  if (request.op != IoOp::kFlush) return operation.error;
  settle_flush(operation);
  return operation.error != 0 ? operation.error : std::exchange(writeback_error_, 0);
}

// A flush that failed has told so, or will: what it was to cover is not kept for
// another try, whose success would mean nothing.
void NbdClientLoop::settle_flush(const NbdClientOperation& operation) noexcept {
  unflushed_.drop_before(operation.flush_covers);
}

void NbdClientLoop::retire(NbdClientOperation& operation, Operations& from) noexcept {
  operation.request = nullptr;
  operation.query.reset();
  unused_.splice(unused_.begin(), from, operation.self);
}

void NbdClientLoop::fail(Operations& operations, int error) {
  while (!operations.empty()) {
    NbdClientOperation& operation = operations.front();
    IoRequest* request = operation.request;
    retire(operation, operations);
    request->complete(error);
  }
}

}  // namespace tidemark
