#include "nbd/transmission.h"

#include <cassert>

#include "nbd/wire_error.h"

namespace tidemark::nbd {

namespace {

constexpr uint32_t kMaximumInFlight = 1024;
// Live chunks of a connection; one request more may go over.
constexpr size_t kLiveLimitBytes = 64 * 1024 * 1024;
// Replies are sent before so much of them is waiting.
constexpr size_t kQueuedLimitBytes = 256 * 1024;

uint32_t device_flags(const ClientRequest& request) noexcept {
  uint32_t flags = 0;
  if ((request.flags & kCommandFua) != 0) flags |= kIoFua;
  if ((request.flags & kCommandNoHole) != 0) flags |= kIoNoHole;
  if ((request.flags & kCommandFastZero) != 0) flags |= kIoFastZero;
  return flags;
}

bool changes_data(IoOp op) noexcept {
  return op == IoOp::kWrite || op == IoOp::kTrim || op == IoOp::kWriteZeroes;
}

IoOp op_of(Command command) noexcept {
  if (command == Command::kTrim) return IoOp::kTrim;
  if (command == Command::kWriteZeroes) return IoOp::kWriteZeroes;
  return command == Command::kCache ? IoOp::kCache : IoOp::kFlush;
}

}  // namespace

Transmission::Transmission(Session session, const TransmissionChannel& channel)
    : session_(std::move(session)),
      device_(session_.served->device()),
      channel_(channel),
      replies_(session_.reply_style(), channel.output),
      request_magic_(session_.extended_headers ? kExtendedRequestMagic : kRequestMagic),
      header_bytes_(session_.extended_headers ? sizeof(ExtendedRequestHeader)
                                              : sizeof(RequestHeader)),
      has_cheap_extents_(device_.traits().cheap_extents),
      rules_(current_rules()) {
  for (const MetaContext& context : session_.contexts) all_contexts_.push_back(&context);
}

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
  return {.size_bytes = device_.size_bytes(),
          .minimum_block_bytes = traits.minimum_block_bytes,
          .is_read_only = session_.served->is_read_only(),
          .can_flush = traits.can_flush,
          .has_fast_zero = traits.fast_zero,
          .can_cache = traits.can_cache,
          .has_structured_replies = session_.structured_replies,
          .has_extended_headers = session_.extended_headers,
          .has_meta_contexts = !session_.contexts.empty()};
}

Refusal Transmission::check(const ClientRequest& request) const noexcept {
  if (is_refusing_) return {WireError::kShutdown, "the export was removed"};
  return check_request(request, rules_);
}

bool Transmission::disconnect() noexcept {
  is_disconnected_ = true;
  return false;
}

bool Transmission::parse_request() {
  const std::span<const std::byte> unparsed = channel_.input.unparsed();
  if (unparsed.size() < header_bytes_) return false;
  if (load_be<uint32_t>(unparsed.data()) != request_magic_) return disconnect();
  const ClientRequest request =
      session_.extended_headers ? take_extended(unparsed.data()) : take_compact(unparsed.data());
  if (request.command == Command::kDisconnect) return disconnect();
  if (request.payload_bytes > 0) return parse_with_payload(request);

  channel_.input.consume(header_bytes_);
  if (const Refusal refusal = check(request); refusal.is_refused()) {
    answer_error(request, refusal);
  } else {
    execute(request);
  }
  return true;
}

// A request that was checked and has no payload.
void Transmission::execute(const ClientRequest& request) {
  const Command command = request.command;
  if (command == Command::kBlockStatus) return answer_block_status(request, all_contexts_);
  if (command != Command::kFlush && request.length_bytes == 0) {
    channel_.loop.requests_total.increment();
    const ReplyTo to{request.cookie, request.offset_bytes};
    return command == Command::kRead ? replies_.read_nothing(to) : replies_.done(to);
  }
  if (command != Command::kRead) {
    return submit(channel_.loop.requests.acquire(), request, op_of(command));
  }
  return may_be_sparse(request) ? submit_sparse_read(request) : submit_read(request);
}

void Transmission::submit(NbdRequest& request, const ClientRequest& from, IoOp op) {
  const bool is_flush = op == IoOp::kFlush;
  request.owner = this;
  request.reply_to = {from.cookie, from.offset_bytes};
  request.command = from.command;
  request.op = op;
  request.flags = changes_data(op) ? device_flags(from) : 0;
  request.offset_bytes = is_flush ? 0 : from.offset_bytes;
  request.length_bytes = is_flush ? 0 : from.length_bytes;
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
  if (request.status != nullptr) {
    finish_status_query(request);
  } else if (request.sparse != nullptr) {
    finish_part(request);
  } else {
    channel_.loop.requests_total.increment();
    if (!is_dropping_) reply(request);
  }
  request.data = nullptr;
  channel_.loop.requests.release(request);
  --in_flight_count_;
  channel_.listener.on_reply();
}

void Transmission::reply(const NbdRequest& request) {
  const WireError error = wire_error(request.error, (request.flags & kIoFastZero) != 0);
  if (error != WireError::kNone) {
    channel_.loop.errors_total.increment();
    replies_.error(request.command, request.reply_to, error, "the disk reports an error");
  } else if (request.op == IoOp::kRead) {
    replies_.read_done(request);
  } else {
    replies_.done(request.reply_to);
  }
}

void Transmission::answer_error(const ClientRequest& request, const Refusal& refusal) {
  channel_.loop.requests_total.increment();
  channel_.loop.errors_total.increment();
  replies_.error(request.command, {request.cookie, request.offset_bytes}, refusal.error,
                 refusal.text);
}

}  // namespace tidemark::nbd
