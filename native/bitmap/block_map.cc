#include "bitmap/block_map.h"

namespace tidemark {

static_assert(std::endian::native == std::endian::little,
              "the file's words are little endian and used in place");
static_assert(std::atomic_ref<uint64_t>::is_always_lock_free);

BlockMap::BlockMap(uint64_t* words, uint64_t word_count, uint64_t block_count)
    : words_(words),
      word_count_(word_count),
      block_count_(block_count),
      summary_((line_count() + 63) / 64) {
  assert(word_count % kWordsPerLine == 0 && block_count <= word_count * 64);
}

bool BlockMap::load_summary() noexcept {
  std::fill(summary_.begin(), summary_.end(), 0);
  for (uint64_t line = 0; line < line_count(); ++line) {
    if (!is_line_zero(line)) summary_[line / 64] |= 1ULL << (line % 64);
  }
  if (block_count_ == word_count_ * 64) return true;
  return next_marked(block_count_) >= word_count_ * 64;
}

void BlockMap::set_word(uint64_t word, uint64_t mask) noexcept {
  const uint64_t line = word / kWordsPerLine;
  const std::atomic_ref summary(summary_[line / 64]);
  const uint64_t bit = 1ULL << (line % 64);
  if ((summary.load(std::memory_order_relaxed) & bit) == 0) {
    summary.fetch_or(bit, std::memory_order_relaxed);
  }
  std::atomic_ref(words_[word]).fetch_or(mask, std::memory_order_release);
}

bool BlockMap::is_line_zero(uint64_t line) const noexcept {
  uint64_t any = 0;
  for (uint64_t i = 0; i < kWordsPerLine; ++i) any |= load(line * kWordsPerLine + i);
  return any == 0;
}

void BlockMap::clear_summary(uint64_t line) noexcept {
  std::atomic_ref(summary_[line / 64]).fetch_and(~(1ULL << (line % 64)), std::memory_order_relaxed);
}

void BlockMap::clear(uint64_t first, uint64_t last) noexcept {
  const uint64_t last_word = last / 64;
  uint64_t mask = UINT64_MAX << (first % 64);
  for (uint64_t word = first / 64; word <= last_word; ++word, mask = UINT64_MAX) {
    if (word == last_word) mask &= UINT64_MAX >> (63 - last % 64);
    if ((load(word) & mask) == 0) continue;
    std::atomic_ref(words_[word]).fetch_and(~mask, std::memory_order_relaxed);
    if (is_line_zero(word / kWordsPerLine)) clear_summary(word / kWordsPerLine);
  }
}

void BlockMap::clear_all() noexcept {
  for (uint64_t line = next_line(0); line < line_count(); line = next_line(line + 1)) {
    for (uint64_t i = 0; i < kWordsPerLine; ++i) {
      const uint64_t word = line * kWordsPerLine + i;
      if (load(word) != 0) std::atomic_ref(words_[word]).store(0, std::memory_order_relaxed);
    }
    clear_summary(line);
  }
}

uint64_t BlockMap::count() const noexcept {
  uint64_t count = 0;
  for (uint64_t line = next_line(0); line < line_count(); line = next_line(line + 1)) {
    for (uint64_t i = 0; i < kWordsPerLine; ++i) {
      count += static_cast<uint64_t>(std::popcount(load(line * kWordsPerLine + i)));
    }
  }
  return count;
}

std::optional<BlockRun> BlockMap::next_run(uint64_t from, uint64_t max_blocks) const noexcept {
  if (from >= block_count_ || max_blocks == 0) return std::nullopt;
  const uint64_t first = next_marked(from);
  if (first >= block_count_) return std::nullopt;
  return BlockRun{first, run_length(first, std::min(max_blocks, block_count_ - first))};
}

WordRange BlockMap::merge_into(BlockMap& destination) const noexcept {
  WordRange touched;
  for (uint64_t line = next_line(0); line < line_count(); line = next_line(line + 1)) {
    for (uint64_t i = 0; i < kWordsPerLine; ++i) {
      const uint64_t word = line * kWordsPerLine + i;
      const uint64_t value = load(word);
      if (value == 0) continue;
      destination.mark_word(word, value);
      touched.include(word);
    }
  }
  return touched;
}

uint64_t BlockMap::next_line(uint64_t from) const noexcept {
  uint64_t index = from / 64;
  if (index >= summary_.size()) return line_count();
  const auto at = [this](uint64_t i) {
    return std::atomic_ref(summary_[i]).load(std::memory_order_relaxed);
  };
  uint64_t lines = at(index) & (UINT64_MAX << (from % 64));
  while (lines == 0) {
    if (++index == summary_.size()) return line_count();
    lines = at(index);
  }
  return index * 64 + static_cast<uint64_t>(std::countr_zero(lines));
}

uint64_t BlockMap::next_marked(uint64_t from) const noexcept {
  uint64_t word = from / 64;
  uint64_t bits = load(word) & (UINT64_MAX << (from % 64));
  while (bits == 0) {
    ++word;
    if (word % kWordsPerLine == 0) word = next_line(word / kWordsPerLine) * kWordsPerLine;
    if (word >= word_count_) return word_count_ * 64;
    bits = load(word);
  }
  return word * 64 + static_cast<uint64_t>(std::countr_zero(bits));
}

uint64_t BlockMap::run_length(uint64_t first, uint64_t max_blocks) const noexcept {
  uint64_t word = first / 64;
  auto length = static_cast<uint64_t>(std::countr_one(load(word) >> (first % 64)));
  if (first % 64 + length < 64) return std::min(length, max_blocks);
  while (length < max_blocks) {
    const auto ones = static_cast<uint64_t>(std::countr_one(load(++word)));
    length += ones;
    if (ones < 64) break;
  }
  return std::min(length, max_blocks);
}

}  // namespace tidemark
