// Where a granule's newest content is: below, in the scratch's data, or nowhere
// because it is zero.
//
// Representation: two bits a granule in an array of atomic words, 32 granules a
// word, in memory that the kernel hands out on first touch, or in a file
// (live_states.h); and a bit for each page of the scratch index (510 words) that has
// changed since it was last taken.
// Workload: a lookup for each request, runs over long ranges, single granules set
// by writes, long ranges by trims. Cost: a load for 32 granules; 64 MiB for 1 TiB
// at 4 KiB once every part of the disk was written. Any thread; the setter holds
// the granules' claim.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "common/status.h"

namespace tidemark {

enum class GranuleState : uint8_t { kBelow = 0, kData = 1, kZero = 2 };

class GranuleStates {
 public:
  static constexpr uint64_t kGranulesPerWord = 32;
  static constexpr uint64_t kWordsPerPage = 510;
  static constexpr uint64_t kGranulesPerPage = kGranulesPerWord * kWordsPerPage;

  struct Run {
    GranuleState state;
    uint64_t count;
  };

  static Result<std::unique_ptr<GranuleStates>> create(uint64_t granule_count);
  // The words in a file of zeroes, from there on, which has room for all of them.
  static Result<std::unique_ptr<GranuleStates>> create_in(int fd, uint64_t offset_bytes,
                                                          uint64_t granule_count);
  ~GranuleStates();
  GranuleStates(const GranuleStates&) = delete;
  GranuleStates& operator=(const GranuleStates&) = delete;

  uint64_t page_count() const noexcept { return page_count_; }

  GranuleState state_of(uint64_t granule) const noexcept;
  // At most `max_count` granules long, which do not end beyond the last.
  Run run_at(uint64_t granule, uint64_t max_count) const noexcept;
  // Pages in which a state changed become dirty.
  void set(uint64_t first_granule, uint64_t end_granule, GranuleState state) noexcept;

  // The index's side. What was set before the page was taken is in the copy.
  uint64_t dirty_page_count() const noexcept;
  bool take_dirty(uint64_t page) noexcept;
  void mark_dirty(uint64_t page) noexcept;
  // Little endian words, as the page holds them; kWordsPerPage * 8 bytes.
  void copy_page(uint64_t page, std::byte* to) const noexcept;
  // Before any other thread is there. False: no states that set() could have made.
  bool load_page(uint64_t page, const std::byte* from) noexcept;
  // As load_page() over what is there; dirty where that is another.
  bool overlay_page(uint64_t page, const std::byte* from) noexcept;

 private:
  static Result<std::unique_ptr<GranuleStates>> map(int flags, int fd, uint64_t offset_bytes,
                                                    uint64_t granule_count);
  GranuleStates(uint64_t granule_count, void* memory, size_t memory_bytes);
  void set_in_word(uint64_t word, uint64_t mask, GranuleState state) noexcept;

  const uint64_t granule_count_;
  const uint64_t page_count_;
  void* const memory_;
  const size_t memory_bytes_;
  std::atomic<uint64_t>* const words_;
  std::vector<std::atomic<uint64_t>> dirty_;  // a bit a page
};

}  // namespace tidemark
