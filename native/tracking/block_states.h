// BlockStates: what has become of each block of a capture.
//
// Representation: two bits a block in an anonymous mapping. The kernel backs
// only pages that were written to, and all zeroes means frozen, so a fresh
// capture of a large disk costs address space alone. Workload: a look at each
// block that is written while a capture is open (one load), a change when a
// block is copied, and long runs released (one atomic operation for 32 blocks).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

#include "common/status.h"

namespace tidemark {

enum class BlockState : uint8_t { kFrozen = 0, kCopying = 1, kSaved = 2, kReleased = 3 };

class BlockStates {
 public:
  static Result<std::unique_ptr<BlockStates>> create(uint64_t block_count);
  ~BlockStates();
  BlockStates(const BlockStates&) = delete;
  BlockStates& operator=(const BlockStates&) = delete;

  BlockState get(uint64_t block_index) const noexcept {
    return state_in(words_[block_index / kBlocksInWord].load(std::memory_order_seq_cst),
                    block_index);
  }

  // False, and nothing changes, when the block is not in state `from`.
  bool change(uint64_t block_index, BlockState from, BlockState to) noexcept;

  // Blocks [first, end) become released; on_saved(block_index) for each that was saved.
  template <typename OnSaved>
  void release(uint64_t first, uint64_t end, OnSaved&& on_saved) noexcept {
    while (first < end) {
      const uint64_t stop = word_end(first, end);
      const uint64_t before = release_in_word(first, stop);
      for (; first < stop; ++first) {
        if (state_in(before, first) == BlockState::kSaved) on_saved(first);
      }
    }
  }

  // Gives the memory back; all blocks are frozen again, for whoever still looks.
  void drop() noexcept;

 private:
  using Word = std::atomic<uint64_t>;
  static constexpr uint64_t kBlocksInWord = 32;

  BlockStates(Word* words, uint64_t mapped_bytes) : words_(words), mapped_bytes_(mapped_bytes) {}

  static BlockState state_in(uint64_t word, uint64_t block_index) noexcept {
    return static_cast<BlockState>((word >> (block_index % kBlocksInWord * 2)) & 3);
  }
  static uint64_t word_end(uint64_t first, uint64_t end) noexcept {
    const uint64_t boundary = (first / kBlocksInWord + 1) * kBlocksInWord;
    return boundary < end ? boundary : end;
  }
  uint64_t release_in_word(uint64_t first, uint64_t end) noexcept;

  Word* const words_;
  const uint64_t mapped_bytes_;
};

}  // namespace tidemark
