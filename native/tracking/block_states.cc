#include "tracking/block_states.h"

#include <sys/mman.h>

#include <cerrno>

namespace tidemark {

static_assert(std::atomic<uint64_t>::is_always_lock_free && sizeof(std::atomic<uint64_t>) == 8,
              "words of the mapping are used as atomics in place");

Result<std::unique_ptr<BlockStates>> BlockStates::create(uint64_t block_count) {
  const uint64_t words = block_count / kBlocksInWord + 1;
  const uint64_t bytes = words * sizeof(Word);
  void* const mapped = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) return Status::from_errno("cannot map a capture's block states", errno);
  return std::unique_ptr<BlockStates>(new BlockStates(static_cast<Word*>(mapped), bytes));
}

BlockStates::~BlockStates() { ::munmap(static_cast<void*>(words_), mapped_bytes_); }

void BlockStates::drop() noexcept {
  ::madvise(static_cast<void*>(words_), mapped_bytes_, MADV_DONTNEED);
}

bool BlockStates::change(uint64_t block_index, BlockState from, BlockState to) noexcept {
  Word& word = words_[block_index / kBlocksInWord];
  const uint64_t shift = block_index % kBlocksInWord * 2;
  uint64_t current = word.load(std::memory_order_seq_cst);
  while (state_in(current, block_index) == from) {
    const uint64_t changed = (current & ~(3ULL << shift)) | (static_cast<uint64_t>(to) << shift);
    if (word.compare_exchange_weak(current, changed, std::memory_order_seq_cst)) return true;
  }
  return false;
}

uint64_t BlockStates::release_in_word(uint64_t first, uint64_t end) noexcept {
  const uint64_t count = end - first;
  const uint64_t run = count == kBlocksInWord ? ~0ULL : (1ULL << count * 2) - 1;
  return words_[first / kBlocksInWord].fetch_or(run << (first % kBlocksInWord * 2),
                                                std::memory_order_seq_cst);
}

}  // namespace tidemark
