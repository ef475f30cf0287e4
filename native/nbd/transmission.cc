#include "nbd/transmission.h"

#include <algorithm>
#include <cassert>

#include "nbd/wire_error.h"

namespace tidemark::nbd {

namespace {

constexpr uint32_t kMaximumInFlight = 1024;
// Live chunks of a connection; one request more may go over.
constexpr size_t kLiveLimitBytes = 64 * 1024 * 1024;
// Replies are sent before so much of them is waiting.
constexpr size_t kQueuedLimitBytes = 256 * 1024;

Command command_of(const RequestHeader& header) noexcept {
  return static_cast<Command>(uint16_t{header.command});
}

uint32_t device_flags(const RequestHeader& header) noexcept {
  uint32_t flags = 0;
  if ((header.flags & kCommandFua) != 0) flags |= kIoFua;
  if ((header.flags & kCommandNoHole) != 0) flags |= kIoNoHole;
  if ((header.flags & kCommandFastZero) != 0) flags |= kIoFastZero;
  return flags;
}

}  // namespace

Transmission::Transmission(Session session, const TransmissionChannel& channel)
    : session_(std::move(session)),
      device_(session_.served->device()),
      channel_(channel),
      replies_(session_.structured_replies, channel.output),
      rules_(current_rules()) {}

Transmission::~Transmission() {
  assert(in_flight_count_ == 0);
  if (large_write_ != nullptr) channel_.loop.requests.release(*large_write_);
}

bool Transmission::is_limited() const noexcept {
  return channel_.output.queued_bytes() >= kQueuedLimitBytes ||
         channel_.live_bytes >= kLiveLimitBytes || in_flight_count_ >= kMaximumInFlight;
}

Transmission::Progress Transmission::run() {
  rules_ = current_rules();
  while (!is_disconnected_ && replies_.is_intact()) {
    if (is_limited()) return Progress::kLimited;
    if (!step()) return is_disconnected_ ? Progress::kDisconnected : Progress::kWantsInput;
  }
  return Progress::kDisconnected;
}

bool Transmission::step() {
  switch (expecting_) {
    case Expecting::kHeader:
      return parse_request();
    case Expecting::kPayload:
      return finish_large_write();
    case Expecting::kSkippedPayload:
      return skip_payload();
  }
  return false;
}

RequestRules Transmission::current_rules() const noexcept {
  const DeviceTraits& traits = device_.traits();
  return {device_.size_bytes(),      traits.minimum_block_bytes, session_.served->is_read_only(),
          traits.can_flush,          traits.fast_zero,           session_.structured_replies,
          !session_.contexts.empty()};
}

bool Transmission::parse_request() {
  const std::span<const std::byte> unparsed = channel_.input.unparsed();
  if (unparsed.size() < sizeof(RequestHeader)) return false;
  const auto header = load_struct<RequestHeader>(unparsed.data());
  if (header.magic != kRequestMagic || command_of(header) == Command::kDisconnect) {
    is_disconnected_ = true;
    return false;
  }
  Refusal refusal = check_request(header, rules_);
  if (is_refusing_) refusal = {WireError::kShutdown, "the export was removed"};
  const bool has_payload = command_of(header) == Command::kWrite && header.length_bytes > 0;
  if (has_payload && !refusal.is_refused()) return parse_write(header);

  channel_.input.consume(sizeof(RequestHeader));
  if (has_payload) {
    awaiting_ = header;
    skip_left_bytes_ = header.length_bytes;
    skip_refusal_ = refusal;
    expecting_ = Expecting::kSkippedPayload;
  } else if (refusal.is_refused()) {
    answer_error(header, refusal);
  } else {
    execute(header);
  }
  return true;
}

// A payload that came with its header stays where it is until it is written.
bool Transmission::parse_write(const RequestHeader& header) {
  const size_t length_bytes = header.length_bytes;
  if (channel_.input.unparsed().size() < sizeof(RequestHeader) + length_bytes) {
    return length_bytes > InputBuffer::kLargePayloadBytes && begin_large_write(header);
  }
  NbdRequest& request = channel_.loop.requests.acquire();
  request.chunk = channel_.input.chunk();
  request.data = channel_.input.position() + sizeof(RequestHeader);
  channel_.input.consume(sizeof(RequestHeader) + length_bytes);
  submit(request, header, IoOp::kWrite);
  return true;
}

bool Transmission::begin_large_write(const RequestHeader& header) {
  ChunkRef chunk = channel_.loop.chunks.acquire(header.length_bytes, channel_.live_bytes);
  if (!chunk) {
    is_disconnected_ = true;
    return false;
  }
  large_write_ = &channel_.loop.requests.acquire();
  large_write_->data = chunk->bytes;
  large_write_->chunk = std::move(chunk);
  awaiting_ = header;
  expecting_ = Expecting::kPayload;
  channel_.input.consume(sizeof(RequestHeader));
  channel_.input.begin_payload(large_write_->data, header.length_bytes);
  return true;
}

bool Transmission::finish_large_write() {
  if (channel_.input.is_payload_pending()) return false;
  expecting_ = Expecting::kHeader;
  submit(*std::exchange(large_write_, nullptr), awaiting_, IoOp::kWrite);
  return true;
}

bool Transmission::skip_payload() {
  const size_t here = channel_.input.unparsed().size();
  if (here == 0) return false;
  const size_t part = std::min<uint64_t>(here, skip_left_bytes_);
  channel_.input.consume(part);
  skip_left_bytes_ -= part;
  if (skip_left_bytes_ == 0) {
    expecting_ = Expecting::kHeader;
    answer_error(awaiting_, skip_refusal_);
  }
  return true;
}

// A request that was checked and has no payload.
void Transmission::execute(const RequestHeader& header) {
  const Command command = command_of(header);
  if (command == Command::kBlockStatus) return answer_block_status(header);
  if (command == Command::kRead && header.length_bytes > 0) return submit_read(header);
  if (command != Command::kFlush && header.length_bytes == 0) {
    channel_.loop.requests_total.increment();
    return command == Command::kRead ? replies_.read_nothing(header.cookie)
                                     : replies_.done(header.cookie);
  }
  IoOp op = IoOp::kFlush;
  if (command == Command::kTrim) op = IoOp::kTrim;
  if (command == Command::kWriteZeroes) op = IoOp::kWriteZeroes;
  submit(channel_.loop.requests.acquire(), header, op);
}

// The device reads into the reply itself, behind room for its header.
void Transmission::submit_read(const RequestHeader& header) {
  const size_t header_bytes = replies_.read_header_bytes();
  ChunkRef chunk;
  std::byte* room = channel_.output.reserve(header_bytes + header.length_bytes, chunk);
  if (room == nullptr) return answer_error(header, {WireError::kNoMemory, "out of memory"});
  NbdRequest& request = channel_.loop.requests.acquire();
  request.chunk = std::move(chunk);
  request.reply = room;
  request.data = room + header_bytes;
  submit(request, header, IoOp::kRead);
}

void Transmission::submit(NbdRequest& request, const RequestHeader& header, IoOp op) {
  const bool is_flush = op == IoOp::kFlush;
  request.owner = this;
  request.cookie = header.cookie;
  request.command = command_of(header);
  request.op = op;
  request.flags = is_flush || op == IoOp::kRead ? 0 : device_flags(header);
  request.offset_bytes = is_flush ? 0 : uint64_t{header.offset_bytes};
  request.length_bytes = is_flush ? 0 : uint32_t{header.length_bytes};
  request.push(&Transmission::on_done, this);
  ++in_flight_count_;
  device_.submit(request);
}

// Any thread, also from inside submit(). On another thread `this` stays alive
// because the request is in flight until the I/O thread has finished it.
void Transmission::on_done(IoRequest& request, void* context, uint64_t, int error) noexcept {
  auto& done = static_cast<NbdRequest&>(request);
  auto& transmission = *static_cast<Transmission*>(context);
  CompletionMailbox& mailbox = transmission.channel_.loop.mailbox;
  done.error = error;
  if (mailbox.is_owner_thread()) {
    transmission.finish(done);
  } else {
    mailbox.post(done);
  }
}

void Transmission::finish(NbdRequest& request) noexcept {
  channel_.loop.requests_total.increment();
  if (!is_dropping_) reply(request);
  request.data = nullptr;
  channel_.loop.requests.release(request);
  --in_flight_count_;
  channel_.listener.on_reply();
}

void Transmission::reply(const NbdRequest& request) {
  const WireError error = wire_error(request.error, (request.flags & kIoFastZero) != 0);
  if (error != WireError::kNone) {
    channel_.loop.errors_total.increment();
    replies_.error(request.command, request.cookie, error, "the disk reports an error");
  } else if (request.op == IoOp::kRead) {
    replies_.read_done(request);
  } else {
    replies_.done(request.cookie);
  }
}

void Transmission::answer_block_status(const RequestHeader& header) {
  const WireError error = block_status_.answer(device_, session_.contexts, header, channel_.output);
  if (error != WireError::kNone) {
    return answer_error(header, {error, "the disk's extents cannot be read"});
  }
  channel_.loop.requests_total.increment();
}

void Transmission::answer_error(const RequestHeader& header, const Refusal& refusal) {
  channel_.loop.requests_total.increment();
  channel_.loop.errors_total.increment();
  replies_.error(command_of(header), header.cookie, refusal.error, refusal.text);
}

}  // namespace tidemark::nbd
