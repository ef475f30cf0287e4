// BlockMap: one map of a bitmap file, one bit a block, with its summary.
//
// Representation. The bits are 64-bit little-endian words in memory that
// somebody else owns (the mapped file); a line is eight of them, 512 blocks.
// The summary, one bit a line, is in memory only: 64 KiB for the largest map.
// Invariants: a set bit's line is set in the summary (a set line may be empty);
// bits past the last block are zero.
//
// Workload and cost. Marking a marked block is one load; a first mark is two
// atomic ORs. Finding a set bit in an empty map of 2^28 blocks reads 8192
// summary words; a dense map is read a word, not a bit, at a time.
//
// Threads and ordering. mark() may run on any threads at once, beside every
// reader. It sets the summary bit first and the block's bit after it (release);
// whoever finds the block's bit set (acquire) and skips its own mark therefore
// knows the summary bit to be set too. A mark that has returned precedes, in
// program order, the submission of the write; nothing stronger is needed: the
// mapping is the kernel's, so a killed process's marks are in the file. Clears
// run on the owner's thread and never beside a mark of the same map: live maps
// are cleared only while they are not current, and the checkpoint gate keeps
// every mark on one side of the flip.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cassert>
#include <cstdint>
#include <optional>
#include <vector>

namespace tidemark {

struct BlockRun {
  uint64_t first;
  uint64_t count;
};

// Words [first, end) of a map.
struct WordRange {
  uint64_t first = UINT64_MAX;
  uint64_t end = 0;

  static WordRange of_blocks(uint64_t first_block, uint64_t last_block) noexcept {
    return {first_block / 64, last_block / 64 + 1};
  }

  bool is_empty() const noexcept { return first >= end; }
  void include(uint64_t word) noexcept { include({word, word + 1}); }
  void include(WordRange other) noexcept {
    first = std::min(first, other.first);
    end = std::max(end, other.end);
  }
};

class BlockMap {
 public:
  // `words` holds whole lines, at least as many as `block_count` needs.
  BlockMap(uint64_t* words, uint64_t word_count, uint64_t block_count);

  // Builds the summary from the words. False: a bit past the last block is set.
  bool load_summary() noexcept;

  // All block ranges are [first, last], both inside the map.
  void mark(uint64_t first, uint64_t last) noexcept {
    const uint64_t last_word = last / 64;
    uint64_t mask = UINT64_MAX << (first % 64);
    for (uint64_t word = first / 64; word < last_word; ++word, mask = UINT64_MAX) {
      mark_word(word, mask);
    }
    mark_word(last_word, mask & (UINT64_MAX >> (63 - last % 64)));
  }
  void mark_all() noexcept { mark(0, block_count_ - 1); }
  void clear(uint64_t first, uint64_t last) noexcept;
  void clear_all() noexcept;

  bool is_empty() const noexcept { return next_line(0) >= line_count(); }
  bool is_marked(uint64_t block) const noexcept {
    return ((load(block / 64) >> (block % 64)) & 1) != 0;
  }
  uint64_t count() const noexcept;
  // The first run at or after `from`, cut to max_blocks.
  std::optional<BlockRun> next_run(uint64_t from, uint64_t max_blocks) const noexcept;

  // Sets what is set here in `destination` too, and answers which of its words
  // hold it: those that held it before may not be durable either.
  WordRange merge_into(BlockMap& destination) const noexcept;

  const uint64_t* words() const noexcept { return words_; }

 private:
  static constexpr uint64_t kWordsPerLine = 8;

  uint64_t line_count() const noexcept { return word_count_ / kWordsPerLine; }
  uint64_t load(uint64_t word) const noexcept {
    return std::atomic_ref(words_[word]).load(std::memory_order_acquire);
  }
  void mark_word(uint64_t word, uint64_t mask) noexcept {
    if ((load(word) & mask) != mask) set_word(word, mask);
  }
  void set_word(uint64_t word, uint64_t mask) noexcept;
  bool is_line_zero(uint64_t line) const noexcept;
  void clear_summary(uint64_t line) noexcept;
  uint64_t next_line(uint64_t from) const noexcept;    // line_count() when none
  uint64_t next_marked(uint64_t from) const noexcept;  // block_count_ when none
  uint64_t run_length(uint64_t first, uint64_t max_blocks) const noexcept;

  uint64_t* words_;
  uint64_t word_count_;
  uint64_t block_count_;
  mutable std::vector<uint64_t> summary_;
};

}  // namespace tidemark
