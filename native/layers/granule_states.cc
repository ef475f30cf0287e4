#include "layers/granule_states.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>

#include "common/byte_order.h"

namespace tidemark {

namespace {

constexpr uint64_t kLowBits = 0x5555555555555555;  // the lower bit of each state

// A word full of one state.
constexpr uint64_t pattern_of(GranuleState state) noexcept {
  return kLowBits * static_cast<uint64_t>(state);
}

constexpr uint64_t divided_up(uint64_t value, uint64_t by) noexcept {
  return value / by + (value % by != 0 ? 1 : 0);
}

// The bits of the states [first, end) of a word.
constexpr uint64_t mask_of(uint64_t first, uint64_t end) noexcept {
  const uint64_t below_end = end == 32 ? ~uint64_t{0} : (uint64_t{1} << (2 * end)) - 1;
  return below_end & ~((uint64_t{1} << (2 * first)) - 1);
}

}  // namespace

Result<std::unique_ptr<GranuleStates>> GranuleStates::create(uint64_t granule_count) {
  return map(MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0, granule_count);
}

Result<std::unique_ptr<GranuleStates>> GranuleStates::create_in(int fd, uint64_t offset_bytes,
                                                                uint64_t granule_count) {
  return map(MAP_SHARED, fd, offset_bytes, granule_count);
}

Result<std::unique_ptr<GranuleStates>> GranuleStates::map(int flags, int fd, uint64_t offset_bytes,
                                                          uint64_t granule_count) {
  const uint64_t words = divided_up(granule_count, kGranulesPerPage) * kWordsPerPage;
  const size_t memory_bytes = words * sizeof(uint64_t);
  void* memory = ::mmap(nullptr, memory_bytes, PROT_READ | PROT_WRITE, flags, fd,
                        static_cast<off_t>(offset_bytes));
  if (memory == MAP_FAILED) return Status::from_errno("Cannot hold the scratch's index", errno);
  return std::unique_ptr<GranuleStates>(new GranuleStates(granule_count, memory, memory_bytes));
}

// The memory is zero, which is what the atomics start with.
GranuleStates::GranuleStates(uint64_t granule_count, void* memory, size_t memory_bytes)
    : granule_count_(granule_count),
      page_count_(divided_up(granule_count, kGranulesPerPage)),
      memory_(memory),
      memory_bytes_(memory_bytes),
      words_(static_cast<std::atomic<uint64_t>*>(memory)),
      dirty_(divided_up(page_count_, 64)) {}

GranuleStates::~GranuleStates() { ::munmap(memory_, memory_bytes_); }

GranuleState GranuleStates::state_of(uint64_t granule) const noexcept {
  const uint64_t word = words_[granule / kGranulesPerWord].load(std::memory_order_acquire);
  return static_cast<GranuleState>((word >> (2 * (granule % kGranulesPerWord))) & 3);
}

GranuleStates::Run GranuleStates::run_at(uint64_t granule, uint64_t max_count) const noexcept {
  const GranuleState state = state_of(granule);
  const uint64_t end = std::min(granule_count_, granule + max_count);
  uint64_t position = granule;
  while (position < end) {
    const uint64_t within = position % kGranulesPerWord;
    const uint64_t word =
        words_[position / kGranulesPerWord].load(std::memory_order_acquire) ^ pattern_of(state);
    const uint64_t others = word & mask_of(within, kGranulesPerWord);
    if (others != 0) {
      const auto first_other = static_cast<uint64_t>(std::countr_zero(others)) / 2;
      position += first_other - within;
      break;
    }
    position += kGranulesPerWord - within;
  }
  // Another thread may have changed the first one in between: a run is never empty.
  return {state, std::max<uint64_t>(1, std::min(position, end) - granule)};
}

void GranuleStates::set_in_word(uint64_t word, uint64_t mask, GranuleState state) noexcept {
  const uint64_t bits = pattern_of(state) & mask;
  uint64_t old = words_[word].load(std::memory_order_relaxed);
  do {
    if ((old & mask) == bits) return;
  } while (
      !words_[word].compare_exchange_weak(old, (old & ~mask) | bits, std::memory_order_acq_rel));
  // After the state, so that whoever takes the mark sees the state.
  mark_dirty(word / kWordsPerPage);
}

void GranuleStates::set(uint64_t first_granule, uint64_t end_granule, GranuleState state) noexcept {
  for (uint64_t granule = first_granule; granule < end_granule;) {
    const uint64_t word = granule / kGranulesPerWord;
    const uint64_t within = granule % kGranulesPerWord;
    const uint64_t count = std::min(kGranulesPerWord - within, end_granule - granule);
    set_in_word(word, mask_of(within, within + count), state);
    granule += count;
  }
}

uint64_t GranuleStates::dirty_page_count() const noexcept {
  uint64_t count = 0;
  for (uint64_t i = 0; i < divided_up(page_count_, 64); ++i) {
    count += static_cast<uint64_t>(std::popcount(dirty_[i].load(std::memory_order_relaxed)));
  }
  return count;
}

bool GranuleStates::take_dirty(uint64_t page) noexcept {
  const uint64_t bit = uint64_t{1} << (page % 64);
  if ((dirty_[page / 64].load(std::memory_order_relaxed) & bit) == 0) return false;
  return (dirty_[page / 64].fetch_and(~bit, std::memory_order_acq_rel) & bit) != 0;
}

void GranuleStates::mark_dirty(uint64_t page) noexcept {
  dirty_[page / 64].fetch_or(uint64_t{1} << (page % 64), std::memory_order_acq_rel);
}

void GranuleStates::copy_page(uint64_t page, std::byte* to) const noexcept {
  for (uint64_t i = 0; i < kWordsPerPage; ++i) {
    store_le<uint64_t>(to + i * 8,
                       words_[page * kWordsPerPage + i].load(std::memory_order_acquire));
  }
}

bool GranuleStates::load_page(uint64_t page, const std::byte* from) noexcept {
  for (uint64_t i = 0; i < kWordsPerPage; ++i) {
    const auto value = load_le<uint64_t>(from + i * 8);
    const uint64_t index = page * kWordsPerPage + i;
    const uint64_t first = index * kGranulesPerWord;
    const uint64_t there =
        first >= granule_count_ ? 0 : std::min(kGranulesPerWord, granule_count_ - first);
    if ((value & (value >> 1) & kLowBits) != 0) return false;  // no fourth state
    if (there < kGranulesPerWord && (value & ~mask_of(0, there)) != 0) return false;
    if (value != 0) words_[index].store(value, std::memory_order_relaxed);
  }
  return true;
}

bool GranuleStates::overlay_page(uint64_t page, const std::byte* from) noexcept {
  std::array<std::byte, kWordsPerPage * 8> present;
  copy_page(page, present.data());
  if (std::memcmp(present.data(), from, present.size()) == 0) return true;
  for (uint64_t i = 0; i < kWordsPerPage; ++i) {
    words_[page * kWordsPerPage + i].store(0, std::memory_order_relaxed);
  }
  mark_dirty(page);
  return load_page(page, from);
}

}  // namespace tidemark
