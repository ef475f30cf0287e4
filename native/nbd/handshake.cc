#include "nbd/handshake.h"

#include "common/nbd_wire.h"

namespace tidemark::nbd {

std::string Handshake::greeting() {
  const Greeting greeting{kServerMagic, kOptionMagic,
                          uint16_t{kServerFixedNewstyle | kServerNoZeroes}};
  return std::string(reinterpret_cast<const char*>(&greeting), sizeof greeting);
}

size_t Handshake::consume(std::span<const std::byte> input, std::string& output) {
  switch (state_) {
    case State::kClientFlags:
      return consume_client_flags(input);
    case State::kOptions:
      return consume_option(input, output);
    case State::kStartTls:
    case State::kTransmission:
    case State::kClosed:
      break;
  }
  return 0;
}

void Handshake::begin_tls() {
  const bool no_zeroes = session_.no_zeroes;
  session_ = Session{};
  session_.no_zeroes = no_zeroes;
  tls_ = TlsState::kActive;
  state_ = State::kOptions;
}

size_t Handshake::close(std::span<const std::byte> input) {
  state_ = State::kClosed;
  return input.size();
}

size_t Handshake::consume_client_flags(std::span<const std::byte> input) {
  if (input.size() < sizeof(be32)) return 0;
  const uint32_t flags = load_struct<be32>(input.data());
  if ((flags & ~(kClientFixedNewstyle | kClientNoZeroes)) != 0) return close(input);
  is_fixed_newstyle_ = (flags & kClientFixedNewstyle) != 0;
  session_.no_zeroes = (flags & kClientNoZeroes) != 0;
  state_ = State::kOptions;
  return sizeof(be32);
}

size_t Handshake::consume_option(std::span<const std::byte> input, std::string& output) {
  if (input.size() < sizeof(OptionHeader)) return 0;
  const auto header = load_struct<OptionHeader>(input.data());
  if (header.magic != kOptionMagic) return close(input);
  if (header.length_bytes > kMaximumOptionBytes) return close(input);
  // Without fixed newstyle a client understands no option replies.
  const bool is_export_name = header.option == static_cast<uint32_t>(Option::kExportName);
  if (!is_fixed_newstyle_ && !is_export_name) return close(input);
  const size_t message_bytes = sizeof(OptionHeader) + header.length_bytes;
  if (input.size() < message_bytes) return 0;

  const auto payload = input.subspan(sizeof(OptionHeader), header.length_bytes);
  switch (answer_option(OptionRequest{header.option, payload, exports_, tls_, session_, output})) {
    case OptionOutcome::kContinue:
      break;
    case OptionOutcome::kStartTls:
      state_ = State::kStartTls;
      break;
    case OptionOutcome::kTransmission:
      state_ = State::kTransmission;
      break;
    case OptionOutcome::kClose:
      return close(input);
  }
  return message_bytes;
}

}  // namespace tidemark::nbd
