// Handshake: the fixed newstyle negotiation as a state machine over bytes. It
// knows no socket: what comes in is given, what goes out is appended.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "nbd/options.h"
#include "nbd/session.h"

namespace tidemark::nbd {

class Handshake {
 public:
  enum class State {
    kClientFlags,
    kOptions,
    kStartTls,  // agreed on: begin_tls() when the reply is sent
    kTransmission,
    kClosed,
  };

  Handshake(const ExportRegistry& exports, TlsState tls) : exports_(exports), tls_(tls) {}

  static std::string greeting();

  State state() const noexcept { return state_; }

  // Takes the one message at the front of `input`; how many bytes it had, or 0
  // when it is not there as a whole yet (it never needs more than
  // kMaximumOptionBytes and a header). Replies are appended to `output`.
  size_t consume(std::span<const std::byte> input, std::string& output);

  // From now on the bytes are those inside TLS. Of what came before, only the
  // client's flags count, which it does not send again.
  void begin_tls();

  Session take_session() { return std::move(session_); }

 private:
  size_t consume_client_flags(std::span<const std::byte> input);
  size_t consume_option(std::span<const std::byte> input, std::string& output);
  size_t close(std::span<const std::byte> input);

  const ExportRegistry& exports_;
  TlsState tls_;
  State state_ = State::kClientFlags;
  bool is_fixed_newstyle_ = false;
  Session session_;
};

}  // namespace tidemark::nbd
