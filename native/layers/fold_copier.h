// FoldCopier: brings the blocks of a disk that lie above its base into the base,
// while the disk is in use.
//
// A piece is copied under a claim on its granules, so that a change waits for that
// piece at most. A batch of pieces is synced, and only then are its granules
// marked; what the guest wrote meanwhile is in the base already, and is left alone.
// Granules that only the base has need no mark. One thread; its calls block.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <vector>

#include "layers/content_source.h"
#include "layers/scratch.h"

namespace tidemark {

class FoldCopier {
 public:
  // `from` is what the disk was before the fold; `old_base` its base, as `from` has it.
  FoldCopier(const ContentSource& from, const BlockDevice& old_base, Scratch& base)
      : from_(from), old_base_(old_base), base_(base) {}

  // Copies about so much and marks it; answers whether something is left. After a
  // failure it may be asked again.
  Result<bool> step(uint64_t max_bytes);

  // How far it has come on the disk. Any thread.
  uint64_t position_bytes() const noexcept { return position_bytes_.load(); }
  void rewind() noexcept { next_granule_ = 0; }

 private:
  struct Piece {
    uint64_t first_granule = 0;
    uint64_t end_granule = 0;
    bool zero = false;
  };

  uint64_t offset_of(uint64_t granule) const noexcept;
  uint64_t length_of(const Piece& piece) const noexcept;
  std::optional<Piece> next_piece();
  Piece piece_at(uint64_t granule, uint64_t count, const SourceRun& run) const noexcept;
  Result<uint64_t> copy(const Piece& piece);
  Status read(const Piece& piece);
  Status write(const Piece& piece, uint64_t first, uint64_t end);
  void mark(const Piece& piece);
  template <typename Do>
  Status each_unfolded(const Piece& piece, Do change);

  const ContentSource& from_;
  const BlockDevice& old_base_;
  Scratch& base_;
  uint64_t next_granule_ = 0;
  std::atomic<uint64_t> position_bytes_{0};  // of the last step's end
  std::vector<std::byte> data_;              // of the piece that is being copied
};

}  // namespace tidemark
