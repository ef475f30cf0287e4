#include "nbd/connection.h"

#include "nbd/peer_name.h"
#include "nbd/socket_options.h"

namespace tidemark::nbd {

namespace {

constexpr size_t kHandshakeOutputLimitBytes = 256 * 1024;
// A look every LoopContext::kDeliveryPause: about a second.
constexpr uint32_t kMaximumDeliveryLooks = 500;

}  // namespace

using Progress = Transmission::Progress;

Connection::Connection(uint64_t number, UniqueFd socket_fd, LoopContext& loop,
                       const ExportRegistry& exports, TlsSettings* tls)
    : number_(number),
      socket_fd_(std::move(socket_fd)),
      plain_stream_(socket_fd_.get()),
      loop_(loop),
      tls_(tls),
      input_(loop.chunks, live_bytes_),
      output_(loop.chunks, live_bytes_),
      handshake_(exports, tls == nullptr ? TlsState::kNone : TlsState::kRequired) {}

void Connection::start() {
  watched_events_ = EPOLLIN;
  is_watched_ = loop_.poller.add(socket_fd_.get(), watched_events_, *this);
  const std::string greeting = Handshake::greeting();
  if (!is_watched_ || !output_.append(greeting.data(), greeting.size())) break_off();
  pump();
}

const ServedExport* Connection::served() const noexcept {
  return transmission_ ? transmission_->served() : nullptr;
}

void Connection::on_events(uint32_t events) {
  if (is_closed_) return;
  is_silent_ = false;
  const bool is_hung_up = (events & (EPOLLHUP | EPOLLERR)) != 0;
  if ((watched_events_ & EPOLLIN) != 0 && (is_hung_up || (events & EPOLLIN) != 0)) {
    receive();
  } else if (is_hung_up) {
    break_off();  // else the poller would report it without end
  }
  pump();
}

void Connection::on_reply() noexcept {
  if (is_pumping_ || is_dirty || is_closed_) return;
  is_dirty = true;
  loop_.dirty.push_back(this);
}

void Connection::receive() {
  switch (input_.receive(*stream_)) {
    case InputBuffer::ReceiveResult::kData:
    case InputBuffer::ReceiveResult::kNothing:
      break;
    case InputBuffer::ReceiveResult::kEnd:
      intake_ = Intake::kEnded;
      break;
    case InputBuffer::ReceiveResult::kBroken:
      break_off();
      break;
  }
}

// What the stream holds decrypted or received already; true when there was any.
bool Connection::receive_again() {
  if (intake_ != Intake::kOpen || !stream_->has_received()) return false;
  receive();
  return true;
}

void Connection::pump() {
  if (is_closed_) return;
  is_pumping_ = true;
  Progress progress;
  do {
    progress = parse();
    flush();
  } while (!is_limited() && (progress == Progress::kLimited || receive_again()));
  is_pumping_ = false;
  settle(progress);
}

Progress Connection::parse() {
  if (intake_ == Intake::kClosed) return Progress::kWantsInput;
  if (!transmission_) {
    const Progress progress = parse_handshake();
    if (!transmission_) return progress;
  }
  const Progress progress = transmission_->run();
  if (progress == Progress::kDisconnected) close_intake();
  return progress;
}

Progress Connection::parse_handshake() {
  std::string replies;
  Progress progress = Progress::kWantsInput;
  while (handshake_.state() < Handshake::State::kTransmission) {
    const size_t length_bytes = handshake_.consume(input_.unparsed(), replies);
    if (length_bytes == 0) break;
    input_.consume(length_bytes);
    if (replies.size() + output_.queued_bytes() >= kHandshakeOutputLimitBytes) {
      progress = Progress::kLimited;
      break;
    }
  }
  if (!output_.append(replies.data(), replies.size())) break_off();
  // A client waits for our answer before it sends the first byte of TLS. What is
  // here already was put there by someone who must not speak inside TLS.
  if (is_starting_tls() && !input_.unparsed().empty()) {
    tls_->note_refusal("Cannot accept " + peer_name_of(socket_fd_.get()) +
                       ": because it sent more in the clear behind STARTTLS.");
    break_off();
  }
  if (handshake_.state() == Handshake::State::kTransmission) begin_transmission();
  if (handshake_.state() == Handshake::State::kClosed) close_intake();
  return progress;
}

// The answer to STARTTLS was the last that leaves in the clear.
void Connection::begin_tls() {
  tls_stream_ = TlsStream::create(socket_fd_.get(), *tls_, loop_.chunks, live_bytes_);
  if (tls_stream_ == nullptr) return break_off();
  stream_ = tls_stream_.get();
  handshake_.begin_tls();
}

void Connection::begin_transmission() {
  transmission_.emplace(handshake_.take_session(),
                        TransmissionChannel{loop_, input_, output_, live_bytes_, *this});
}

void Connection::flush() {
  // A reply that could not be queued leaves a stream that nobody can read on.
  if (transmission_ && !transmission_->is_intact()) break_off();
  if (is_broken_) return output_.discard();
  const OutputQueue::FlushResult result = output_.flush(*stream_);
  if (result == OutputQueue::FlushResult::kBroken) break_off();
  if (result == OutputQueue::FlushResult::kDrained && is_starting_tls()) begin_tls();
}

bool Connection::is_limited() const noexcept {
  if (transmission_) return transmission_->is_limited();
  return output_.queued_bytes() >= kHandshakeOutputLimitBytes;
}

bool Connection::is_busy() const noexcept {
  return transmission_ && transmission_->in_flight_count() > 0;
}

void Connection::close_intake() {
  intake_ = Intake::kClosed;
  input_.discard();
}

void Connection::break_off() {
  close_intake();
  is_broken_ = true;
  output_.discard();
  if (transmission_) transmission_->drop_replies();
  if (is_watched_) loop_.poller.remove(socket_fd_.get());
  is_watched_ = false;
}

void Connection::settle(Progress progress) {
  const bool is_stopped = progress == Progress::kLimited && is_limited();
  if (intake_ == Intake::kEnded && !is_stopped) close_intake();
  const bool has_unsent = output_.queued_bytes() > 0 || (!is_broken_ && stream_->has_unsent());
  if (intake_ == Intake::kClosed && !is_busy() && !has_unsent) return close_when_delivered();
  input_.release_if_empty();
  if (!is_broken_) stream_->expect(input_.payload_left_bytes());
  uint32_t events = 0;
  if (intake_ == Intake::kOpen && !is_stopped && !is_starting_tls()) events |= EPOLLIN;
  if (has_unsent) events |= EPOLLOUT;
  watch(events);
}

void Connection::watch(uint32_t events) {
  if (!is_watched_ || events == watched_events_) return;
  watched_events_ = events;
  loop_.poller.modify(socket_fd_.get(), events, *this);
}

// A socket that is closed with unread bytes makes TCP reset the connection, and
// replies that the peer has not acknowledged would be lost with it.
void Connection::close_when_delivered() {
  const bool is_delivered = is_broken_ || !has_undelivered_bytes(socket_fd_.get());
  if (is_delivered || ++delivery_looks_ > kMaximumDeliveryLooks) return close();
  watch(0);
  loop_.delivering.push_back(this);
}

uint32_t Connection::look_for_silence() noexcept {
  silent_looks_ = is_silent_ && !is_busy() && transmission_ ? silent_looks_ + 1 : 0;
  is_silent_ = true;
  // Who sends slowly is not silent.
  if (!is_broken_) stream_->expect(0);
  return silent_looks_;
}

void Connection::close() {
  if (!is_broken_) stream_->end();
  if (is_watched_) loop_.poller.remove(socket_fd_.get());
  is_watched_ = false;
  is_closed_ = true;
  tls_stream_.reset();
  socket_fd_.reset();
  loop_.closed.push_back(this);
}

void Connection::shut_down() {
  if (is_in_handshake()) break_off();
  close_intake();
  pump();
}

void Connection::end_export() {
  if (transmission_) transmission_->refuse_all();
  if (intake_ == Intake::kOpen) intake_ = Intake::kEnded;
  pump();
}

void Connection::abandon() {
  if (is_closed_) return;
  break_off();
  pump();
}

}  // namespace tidemark::nbd
