// Connection: one client's socket, from greeting to close.
//
// It belongs to one I/O thread. It ends in steps: intake closes first (the
// client's end of file, DISC, an error, or the server's stop), then what is in
// flight completes, then replies are sent as far as the client takes them; only
// then is the socket closed and the object destroyed.
#pragma once

#include <optional>

#include "common/fd.h"
#include "nbd/handshake.h"
#include "nbd/input_buffer.h"
#include "nbd/loop_context.h"
#include "nbd/output_queue.h"
#include "nbd/plain_stream.h"
#include "nbd/tls_stream.h"
#include "nbd/transmission.h"

namespace tidemark::nbd {

class Connection : public PollHandler, public ReplyListener {
 public:
  // `number` is never used twice by a loop.
  // `tls` null: this server has none.
  Connection(uint64_t number, UniqueFd socket_fd, LoopContext& loop, const ExportRegistry& exports,
             TlsSettings* tls);

  void start();  // registers with the poller, sends the greeting

  void on_events(uint32_t events) override;
  void on_reply() noexcept override;

  // Does whatever can be done now: parse, send, close.
  void pump();

  // Takes nothing more, finishes what is in flight, then closes.
  void shut_down();
  // The same, but answers with ESHUTDOWN what was received already.
  void end_export();
  // Closes as soon as nothing is in flight, whatever is left to send.
  void abandon();

  uint64_t number() const noexcept { return number_; }
  bool is_in_handshake() const noexcept { return !transmission_.has_value() && !is_closed_; }
  bool is_closed() const noexcept { return is_closed_; }
  const ServedExport* served() const noexcept;

  bool is_dirty = false;  // in LoopContext::dirty

 private:
  enum class Intake {
    kOpen,
    kEnded,   // nothing more comes; what came is still parsed
    kClosed,  // nothing more is parsed
  };

  void receive();
  bool receive_again();
  Transmission::Progress parse();
  Transmission::Progress parse_handshake();
  bool is_starting_tls() const noexcept {
    return handshake_.state() == Handshake::State::kStartTls;
  }
  void begin_tls();
  void begin_transmission();
  void flush();
  void close_intake();
  void break_off();
  void settle(Transmission::Progress progress);
  void watch(uint32_t events);
  void close();
  bool is_limited() const noexcept;
  bool is_busy() const noexcept;

  const uint64_t number_;
  UniqueFd socket_fd_;
  PlainStream plain_stream_;
  LoopContext& loop_;
  TlsSettings* const tls_;
  size_t live_bytes_ = 0;  // before what counts on it
  std::unique_ptr<TlsStream> tls_stream_;
  ByteStream* stream_ = &plain_stream_;  // then tls_stream_
  InputBuffer input_;
  OutputQueue output_;
  Handshake handshake_;
  std::optional<Transmission> transmission_;
  Intake intake_ = Intake::kOpen;
  uint32_t watched_events_ = 0;
  bool is_watched_ = false;  // is in the poller
  bool is_broken_ = false;   // the peer is gone; nothing can be sent
  bool is_pumping_ = false;
  bool is_closed_ = false;
};

}  // namespace tidemark::nbd
