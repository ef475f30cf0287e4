// ScratchChange: one write, trim or write-zeroes on its way into a scratch.
// Deletes itself when it is over.
//
// It claims the granules it touches. A granule that it covers in part and that is
// not in the scratch yet is filled first: read from below, changed in memory,
// written whole. Whole granules are written straight, or only marked as zero.
// States change after the data is written, and only if all of it was.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "device/io_request.h"
#include "layers/disk_content.h"
#include "layers/granule_locks.h"
#include "layers/scratch.h"

namespace tidemark {

class ScratchChange final : public GranuleClaim {
 public:
  // Completes `request`, now or later.
  static void start(IoRequest& request, Scratch& scratch, const DiskContent& content) noexcept;

 private:
  enum class Step : uint8_t { kClaim, kFill, kWrite };

  // A part of the request's range: within one granule (head, tail), or whole
  // granules between these.
  struct Piece {
    uint64_t begin_bytes = 0;
    uint64_t end_bytes = 0;
    std::unique_ptr<std::byte[]> granule;  // filled from below; null: none needed
    IoRequest io;

    bool is_empty() const noexcept { return begin_bytes == end_bytes; }
  };

  ScratchChange(IoRequest& request, Scratch& scratch, const DiskContent& content) noexcept;

  void run() noexcept override;
  bool is_write() const noexcept { return request_.op == IoOp::kWrite; }
  uint64_t granule_begin(const Piece& piece) const noexcept;
  uint64_t granule_end(const Piece& piece) const noexcept;
  GranuleState state_of(const Piece& piece) const noexcept;
  bool needs_fill(const Piece& piece) const noexcept;
  bool claim_is_enough() const noexcept;

  void divide() noexcept;
  void claim() noexcept;
  void claimed() noexcept;
  void pass_on(BlockDevice& successor) noexcept;
  void fill() noexcept;
  void fill_piece(Piece& piece) noexcept;
  void merge(Piece& piece) noexcept;
  void write() noexcept;
  void write_straight() noexcept;
  void write_zeroes(Piece& piece, uint32_t flags) noexcept;
  void zero_straight() noexcept;
  bool zeroes_are_data() const noexcept;
  void finish() noexcept;
  void set_states() noexcept;

  void begin_step(Step step) noexcept;
  void submit(IoRequest& io) noexcept;
  void part_done(int error) noexcept;

  IoRequest& request_;
  Scratch& scratch_;
  const DiskContent& content_;
  Piece head_;
  Piece middle_;
  Piece tail_;
  Step step_ = Step::kClaim;
  std::atomic<uint32_t> pending_{0};
  std::atomic<int> first_error_{0};
};

}  // namespace tidemark
