#include "layers/scratch_change.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

namespace tidemark {

ScratchChange::ScratchChange(IoRequest& request, Scratch& scratch,
                             const DiskContent& content) noexcept
    : request_(request), scratch_(scratch), content_(content) {
  const uint64_t granularity = scratch.granularity_bytes();
  first_granule = request.offset_bytes / granularity;
  end_granule = (request.end_bytes() + granularity - 1) / granularity;
  divide();
}

void ScratchChange::start(IoRequest& request, Scratch& scratch,
                          const DiskContent& content) noexcept {
  // Room for zeroes is made by writing them, on some file systems.
  constexpr uint32_t kRoomAtOnce = kIoNoHole | kIoFastZero;
  if (request.op == IoOp::kWriteZeroes && (request.flags & kRoomAtOnce) == kRoomAtOnce) {
    return request.complete(ENOTSUP);
  }
  auto* change = new (std::nothrow) ScratchChange(request, scratch, content);
  if (change == nullptr) return request.complete(ENOMEM);
  change->claim();
}

// The disk's last granule may be short; who covers what there is of it covers it whole.
void ScratchChange::divide() noexcept {
  const uint64_t granularity = scratch_.granularity_bytes();
  const uint64_t begin = request_.offset_bytes;
  const uint64_t end = request_.end_bytes();
  uint64_t middle_begin = begin;
  uint64_t middle_end = end;
  if (begin % granularity != 0) {
    head_.begin_bytes = begin;
    head_.end_bytes = middle_begin = std::min(end, (first_granule + 1) * granularity);
  }
  if (end % granularity != 0 && end != scratch_.size_bytes() && middle_begin < end) {
    tail_.begin_bytes = middle_end = (end_granule - 1) * granularity;
    tail_.end_bytes = end;
  }
  middle_.begin_bytes = middle_begin;
  middle_.end_bytes = middle_end;
}

uint64_t ScratchChange::granule_begin(const Piece& piece) const noexcept {
  return piece.begin_bytes / scratch_.granularity_bytes() * scratch_.granularity_bytes();
}

uint64_t ScratchChange::granule_end(const Piece& piece) const noexcept {
  return std::min(granule_begin(piece) + scratch_.granularity_bytes(), scratch_.size_bytes());
}

GranuleState ScratchChange::state_of(const Piece& piece) const noexcept {
  return scratch_.states().state_of(piece.begin_bytes / scratch_.granularity_bytes());
}

// Zeroes in a granule of zeroes change nothing.
bool ScratchChange::needs_fill(const Piece& piece) const noexcept {
  if (piece.is_empty()) return false;
  const GranuleState state = state_of(piece);
  return state == GranuleState::kBelow || (is_write() && state == GranuleState::kZero);
}

// Under a shared claim nobody turns data into anything else.
bool ScratchChange::claim_is_enough() const noexcept {
  return exclusive || !(needs_fill(head_) || needs_fill(tail_));
}

void ScratchChange::claim() noexcept {
  exclusive = !is_write() || needs_fill(head_) || needs_fill(tail_);
  step_ = Step::kClaim;
  if (scratch_.locks().lock(*this)) run_flat(*this);
}

void ScratchChange::run() noexcept {
  switch (step_) {
    case Step::kClaim:
      return claimed();
    case Step::kFill:
      return write();
    case Step::kWrite:
      return finish();
  }
}

void ScratchChange::claimed() noexcept {
  if (BlockDevice* successor = scratch_.successor()) return pass_on(*successor);
  if (claim_is_enough()) return fill();
  // A trim came in between; who asks for an exclusive claim gets what it needs.
  scratch_.locks().unlock(*this);
  claim();
}

void ScratchChange::pass_on(BlockDevice& successor) noexcept {
  scratch_.locks().unlock(*this);
  IoRequest& request = request_;
  delete this;
  successor.submit(request);
}

void ScratchChange::begin_step(Step step) noexcept {
  step_ = step;
  pending_.store(1, std::memory_order_relaxed);
}

void ScratchChange::submit(IoRequest& io) noexcept {
  pending_.fetch_add(1, std::memory_order_relaxed);
  io.push([](IoRequest&, void* context, uint64_t,
             int error) noexcept { static_cast<ScratchChange*>(context)->part_done(error); },
          this);
  if (io.op == IoOp::kRead) return content_.read(io);
  scratch_.data().submit(io);
}

// Each step's last part goes on with the next step.
void ScratchChange::part_done(int error) noexcept {
  int none = 0;
  if (error != 0) first_error_.compare_exchange_strong(none, error, std::memory_order_relaxed);
  if (pending_.fetch_sub(1, std::memory_order_acq_rel) == 1) run_flat(*this);
}

void ScratchChange::fill() noexcept {
  begin_step(Step::kFill);
  if (needs_fill(head_)) fill_piece(head_);
  if (needs_fill(tail_)) fill_piece(tail_);
  part_done(0);
}

// The granule is not in the scratch, and the claim keeps it so: the read goes below.
void ScratchChange::fill_piece(Piece& piece) noexcept {
  const uint64_t length_bytes = granule_end(piece) - granule_begin(piece);
  piece.granule.reset(new (std::nothrow) std::byte[length_bytes]);
  piece.io.op = IoOp::kRead;
  piece.io.offset_bytes = granule_begin(piece);
  piece.io.length_bytes = length_bytes;
  piece.io.data = piece.granule.get();
  if (piece.granule != nullptr) return submit(piece.io);
  pending_.fetch_add(1, std::memory_order_relaxed);
  part_done(ENOMEM);
}

void ScratchChange::merge(Piece& piece) noexcept {
  if (piece.granule == nullptr) return;
  std::byte* to = piece.granule.get() + (piece.begin_bytes - granule_begin(piece));
  const uint64_t length_bytes = piece.end_bytes - piece.begin_bytes;
  if (is_write()) {
    std::memcpy(to, request_.data + (piece.begin_bytes - request_.offset_bytes), length_bytes);
  } else {
    std::memset(to, 0, length_bytes);
  }
  piece.io.op = IoOp::kWrite;
  submit(piece.io);
}

void ScratchChange::write() noexcept {
  if (first_error_.load(std::memory_order_relaxed) != 0) return finish();
  begin_step(Step::kWrite);
  merge(head_);
  merge(tail_);
  if (is_write()) {
    write_straight();
  } else {
    zero_straight();
  }
  part_done(0);
}

// Whole granules, and beside them the parts of granules that are data already.
void ScratchChange::write_straight() noexcept {
  const uint64_t begin = head_.granule == nullptr ? request_.offset_bytes : head_.end_bytes;
  const uint64_t end = tail_.granule == nullptr ? request_.end_bytes() : tail_.begin_bytes;
  if (begin >= end) return;
  middle_.io.op = IoOp::kWrite;
  middle_.io.offset_bytes = begin;
  middle_.io.length_bytes = end - begin;
  middle_.io.data = request_.data + (begin - request_.offset_bytes);
  submit(middle_.io);
}

// Where a granule was filled, merge() has done it.
void ScratchChange::write_zeroes(Piece& piece, uint32_t flags) noexcept {
  if (piece.is_empty() || piece.granule != nullptr) return;
  piece.io.op = IoOp::kWriteZeroes;
  piece.io.flags = flags;
  piece.io.offset_bytes = piece.begin_bytes;
  piece.io.length_bytes = piece.end_bytes - piece.begin_bytes;
  submit(piece.io);
}

bool ScratchChange::zeroes_are_data() const noexcept {
  return scratch_.writes_zeroes() || (request_.flags & kIoNoHole) != 0;
}

// Whole granules of a scratch have nothing to write: their state says it. Only who
// asks for room gets it.
void ScratchChange::zero_straight() noexcept {
  for (Piece* piece : {&head_, &tail_}) {
    if (state_of(*piece) == GranuleState::kData) write_zeroes(*piece, 0);
  }
  if (zeroes_are_data()) write_zeroes(middle_, request_.flags & (kIoNoHole | kIoFastZero));
}

void ScratchChange::set_states() noexcept {
  const uint64_t granularity = scratch_.granularity_bytes();
  GranuleStates& states = scratch_.states();
  const bool data = is_write() || zeroes_are_data();
  const uint64_t middle_first = (middle_.begin_bytes + granularity - 1) / granularity;
  const uint64_t middle_end = (middle_.end_bytes + granularity - 1) / granularity;
  if (!middle_.is_empty()) {
    states.set(middle_first, middle_end, data ? GranuleState::kData : GranuleState::kZero);
  }
  for (const Piece* piece : {&head_, &tail_}) {
    const uint64_t granule = piece->begin_bytes / granularity;
    if (piece->granule != nullptr) states.set(granule, granule + 1, GranuleState::kData);
  }
}

void ScratchChange::finish() noexcept {
  const int error = first_error_.load(std::memory_order_relaxed);
  if (error == 0) set_states();
  scratch_.locks().unlock(*this);
  IoRequest& request = request_;
  Scratch& scratch = scratch_;
  delete this;
  if (error == 0 && (request.flags & kIoFua) != 0) return scratch.flusher().flush(request);
  request.complete(error);
}

}  // namespace tidemark
