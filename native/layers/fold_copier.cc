#include "layers/fold_copier.h"

#include <algorithm>
#include <cstring>

#include "common/failpoint.h"
#include "device/sync_io.h"
#include "layers/granule_hold.h"

namespace tidemark {

namespace {

// A change of the guest waits for no more than one of these.
constexpr uint64_t kPieceBytes = 64 * 1024;
constexpr uint64_t kZeroPieceBytes = 64 * 1024 * 1024;
constexpr uint64_t kZeroWorkBytes = 4096;  // what zeroes count, however many

Status damaged(uint64_t offset_bytes, uint64_t length_bytes) {
  return {ErrorCode::kCorrupt,
          "Cannot fold the disk: because something in the " + std::to_string(length_bytes) +
              " bytes at disk offset " + std::to_string(offset_bytes) +
              " differs from its checksum. It is tried again; write that area in the guest, or "
              "take another copy of the VM."};
}

}  // namespace

uint64_t FoldCopier::offset_of(uint64_t granule) const noexcept {
  return std::min(granule * base_.granularity_bytes(), base_.size_bytes());
}

uint64_t FoldCopier::length_of(const Piece& piece) const noexcept {
  return offset_of(piece.end_granule) - offset_of(piece.first_granule);
}

// `run` begins at `granule`; `count` granules from there are not folded.
FoldCopier::Piece FoldCopier::piece_at(uint64_t granule, uint64_t count,
                                       const SourceRun& run) const noexcept {
  const uint64_t granularity = base_.granularity_bytes();
  const bool to_end = offset_of(granule) + run.length_bytes == base_.size_bytes();
  const uint64_t whole = to_end ? count : run.length_bytes / granularity;
  if (whole == 0) return {granule, granule + 1, false};  // it lies in several places
  const uint64_t most_bytes = run.device == nullptr ? kZeroPieceBytes : kPieceBytes;
  const uint64_t most = std::max<uint64_t>(1, most_bytes / granularity);
  return {granule, granule + std::min({whole, count, most}), run.device == nullptr};
}

std::optional<FoldCopier::Piece> FoldCopier::next_piece() {
  const uint64_t end = base_.granule_count();
  while (next_granule_ < end) {
    const auto states = base_.states().run_at(next_granule_, end - next_granule_);
    const uint64_t offset_bytes = offset_of(next_granule_);
    if (states.state != GranuleState::kBelow) {
      next_granule_ += states.count;
      continue;
    }
    const SourceRun run =
        from_.find(offset_bytes, offset_of(next_granule_ + states.count) - offset_bytes);
    const uint64_t run_end_bytes = offset_bytes + run.length_bytes;
    const uint64_t run_end =
        run_end_bytes == base_.size_bytes() ? end : run_end_bytes / base_.granularity_bytes();
    if (run.device == &old_base_ && run_end > next_granule_) {
      next_granule_ = run_end;
      continue;
    }
    const Piece piece = piece_at(next_granule_, states.count, run);
    next_granule_ = piece.end_granule;
    return piece;
  }
  return std::nullopt;
}

// Under a claim on the piece.
template <typename Do>
Status FoldCopier::each_unfolded(const Piece& piece, Do change) {
  for (uint64_t granule = piece.first_granule; granule < piece.end_granule;) {
    const auto run = base_.states().run_at(granule, piece.end_granule - granule);
    if (run.state == GranuleState::kBelow) {
      if (Status status = change(granule, granule + run.count); !status.is_ok()) return status;
    }
    granule += run.count;
  }
  return Status::ok();
}

Status FoldCopier::read(const Piece& piece) {
  data_.resize(length_of(piece));
  for (size_t done = 0; done < data_.size();) {
    const SourceRun run = from_.find(offset_of(piece.first_granule) + done, data_.size() - done);
    const auto into = std::span(data_).subspan(done, run.length_bytes);
    if (run.device == nullptr) {
      std::memset(into.data(), 0, into.size());
    } else if (Status status = read_sync(*run.device, run.device_offset_bytes, into);
               !status.is_ok()) {
      const uint64_t offset_bytes = offset_of(piece.first_granule) + done;
      return status.code() == ErrorCode::kCorrupt ? damaged(offset_bytes, into.size()) : status;
    }
    done += run.length_bytes;
  }
  return Status::ok();
}

Status FoldCopier::write(const Piece& piece, uint64_t first, uint64_t end) {
  const uint64_t offset_bytes = offset_of(first);
  const uint64_t length_bytes = offset_of(end) - offset_bytes;
  if (piece.zero) return write_zeroes_sync(base_.data(), offset_bytes, length_bytes);
  const uint64_t within_bytes = offset_bytes - offset_of(piece.first_granule);
  return write_sync(base_.data(), offset_bytes,
                    std::span(data_).subspan(within_bytes, length_bytes));
}

// Answers about how much work it was.
Result<uint64_t> FoldCopier::copy(const Piece& piece) {
  const GranuleHold hold(base_.locks(), piece.first_granule, piece.end_granule);
  Status status = piece.zero ? Status::ok() : read(piece);
  if (status.is_ok()) {
    status = each_unfolded(piece,
                           [&](uint64_t first, uint64_t end) { return write(piece, first, end); });
  }
  if (!status.is_ok()) return status;
  failpoint("fold.copied");
  return piece.zero ? kZeroWorkBytes : data_.size();
}

void FoldCopier::mark(const Piece& piece) {
  const GranuleHold hold(base_.locks(), piece.first_granule, piece.end_granule);
  (void)each_unfolded(piece, [&](uint64_t first, uint64_t end) {
    base_.states().set(first, end, GranuleState::kData);
    return Status::ok();
  });
}

Result<bool> FoldCopier::step(uint64_t max_bytes) {
  const uint64_t from_granule = next_granule_;
  std::vector<Piece> batch;
  Status status;
  for (uint64_t done_bytes = 0; done_bytes < max_bytes && status.is_ok();) {
    const auto piece = next_piece();
    if (!piece) break;
    const auto work_bytes = copy(*piece);
    status = work_bytes.status();
    if (status.is_ok()) done_bytes += work_bytes.value();
    batch.push_back(*piece);
  }
  if (status.is_ok() && !batch.empty()) status = base_.flusher().flush_and_wait();
  if (!status.is_ok()) {
    next_granule_ = from_granule;
    return status;
  }
  failpoint("fold.synced");
  for (const Piece& piece : batch) mark(piece);
  failpoint("fold.marked");
  position_bytes_.store(offset_of(next_granule_));
  return next_granule_ < base_.granule_count();
}

}  // namespace tidemark
