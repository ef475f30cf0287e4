// The requests that bring a payload: writes, the choice of contexts of
// BLOCK_STATUS, and what is received only to be dropped.
#include <algorithm>

#include "nbd/block_status.h"
#include "nbd/transmission.h"

namespace tidemark::nbd {

bool Transmission::parse_with_payload(const ClientRequest& request) {
  if (request.command == Command::kWrite) {
    // With extended headers a client knows better: the specification asks to hang up.
    if (session_.extended_headers && request.payload_bytes > kMaximumPayloadBytes) {
      return disconnect();
    }
    const Refusal refusal = check(request);
    return refusal.is_refused() ? begin_skip(request, refusal) : parse_write(request);
  }
  if (request.payload_bytes > kMaximumPayloadBytes) return disconnect();
  if (request.command == Command::kBlockStatus) return parse_status_filter(request);
  return begin_skip(request, {WireError::kInvalid, "this command has no payload"});
}

// A payload that came with its header stays where it is until it is written.
bool Transmission::parse_write(const ClientRequest& request) {
  const size_t length_bytes = request.length_bytes;
  if (channel_.input.unparsed().size() < header_bytes_ + length_bytes) {
    return length_bytes > InputBuffer::kLargePayloadBytes && begin_large_write(request);
  }
  NbdRequest& write = channel_.loop.requests.acquire();
  write.chunk = channel_.input.chunk();
  write.data = channel_.input.position() + header_bytes_;
  channel_.input.consume(header_bytes_ + length_bytes);
  submit(write, request, IoOp::kWrite);
  return true;
}

bool Transmission::begin_large_write(const ClientRequest& request) {
  ChunkRef chunk = channel_.loop.chunks.acquire(request.length_bytes, channel_.live_bytes);
  if (!chunk) return disconnect();
  large_write_ = &channel_.loop.requests.acquire();
  large_write_->data = chunk->bytes;
  large_write_->chunk = std::move(chunk);
  awaiting_ = request;
  expecting_ = Expecting::kPayload;
  channel_.input.consume(header_bytes_);
  channel_.input.begin_payload(large_write_->data, request.length_bytes);
  return true;
}

bool Transmission::finish_large_write() {
  if (channel_.input.is_payload_pending()) return false;
  expecting_ = Expecting::kHeader;
  submit(*std::exchange(large_write_, nullptr), awaiting_, IoOp::kWrite);
  return true;
}

// The payload: the length asked about, and the ids of the contexts to answer for.
bool Transmission::parse_status_filter(const ClientRequest& request) {
  const uint64_t longest_bytes = sizeof(be64) + all_contexts_.size() * sizeof(be32);
  if (request.payload_bytes > longest_bytes) {
    return begin_skip(request, {WireError::kInvalid, "more contexts than were negotiated"});
  }
  const std::span<const std::byte> unparsed = channel_.input.unparsed();
  if (unparsed.size() < header_bytes_ + request.payload_bytes) return false;
  ClientRequest asked = request;
  chosen_contexts_.clear();
  const bool is_valid = take_status_filter(unparsed.subspan(header_bytes_, request.payload_bytes),
                                           session_.contexts, asked.length_bytes, chosen_contexts_);
  channel_.input.consume(header_bytes_ + request.payload_bytes);
  Refusal refusal = check(asked);
  if (!refusal.is_refused() && !is_valid) {
    refusal = {WireError::kInvalid, "not a choice of the contexts that were negotiated"};
  }
  if (refusal.is_refused()) {
    answer_error(request, refusal);
  } else {
    answer_block_status(asked, chosen_contexts_);
  }
  return true;
}

bool Transmission::begin_skip(const ClientRequest& request, const Refusal& refusal) {
  channel_.input.consume(header_bytes_);
  awaiting_ = request;
  skip_left_bytes_ = request.payload_bytes;
  skip_refusal_ = refusal;
  expecting_ = Expecting::kSkippedPayload;
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

}  // namespace tidemark::nbd
