// The bytes of a scratch's index file, and of a fold's marks, which are an index
// too; docs/formats/scratch.md and fold.md are their description. Everything is
// little endian.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "common/status.h"
#include "common/uuid.h"
#include "layers/granule_states.h"

namespace tidemark {

inline constexpr uint32_t kScratchFormatVersion = 1;
inline constexpr uint32_t kFoldMarksFormatVersion = 1;
inline constexpr size_t kScratchPageBytes = 4096;
inline constexpr size_t kScratchPayloadBytes = GranuleStates::kWordsPerPage * 8;
inline constexpr size_t kScratchPageHeadBytes = kScratchPageBytes - kScratchPayloadBytes;

// What a scratch is for; it is of no use on top of anything else.
struct ScratchIdentity {
  Uuid disk;
  uint64_t size_bytes = 0;
  uint32_t granularity_bytes = 0;
  uint64_t base_size_bytes = 0;
  uint32_t layer_count = 0;
  uint32_t layers_checksum = 0;  // over each layer's lineage, sequence and checksum, in order
  Uuid folded_scratch;           // of a fold's marks: whose writes it folds; nil: a scratch

  bool operator==(const ScratchIdentity&) const = default;
};

struct ScratchHeader {
  ScratchIdentity identity;
  Uuid scratch;       // random, of this one file
  uint32_t seed = 0;  // the header's own checksum, with which all others of the file start
};

// Where things are in an index of `page_count` pages: the header, the pages, two
// journals with room for every page.
struct ScratchGeometry {
  uint64_t page_count = 0;

  static ScratchGeometry of(const ScratchIdentity& identity) noexcept;
  uint64_t page_offset_bytes(uint64_t page) const noexcept {
    return kScratchPageBytes * (1 + page);
  }
  uint64_t journal_offset_bytes(unsigned journal) const noexcept {
    return kScratchPageBytes * (1 + page_count + journal * (page_count + 1));
  }
  uint64_t file_bytes() const noexcept { return journal_offset_bytes(2); }
};

// Each takes or gives one page of kScratchPageBytes.
void encode_scratch_header(const ScratchIdentity& identity, const Uuid& scratch,
                           std::byte* to) noexcept;
Result<ScratchHeader> decode_scratch_header(const std::byte* from, const std::string& what);

// A page of states; the payload behind its head is in place already.
void finish_scratch_page(std::byte* page, uint64_t page_number, uint64_t sequence,
                         uint32_t seed) noexcept;
struct ScratchPage {
  uint64_t page_number = 0;
  uint64_t sequence = 0;
};
// False: not a page of this index, or damaged.
bool decode_scratch_page(const std::byte* from, uint32_t seed, ScratchPage& page) noexcept;
bool is_blank_page(const std::byte* from) noexcept;

struct ScratchJournal {
  uint64_t sequence = 0;
  uint64_t page_count = 0;          // that follow the journal's head
  uint64_t pages_ever_written = 0;  // of the index, this cycle's included
  uint32_t pages_checksum = 0;      // over the pages: those of a torn earlier try do not fit
};
void encode_scratch_journal(const ScratchJournal& journal, uint32_t seed, std::byte* to) noexcept;
bool decode_scratch_journal(const std::byte* from, uint32_t seed, ScratchJournal& journal) noexcept;

}  // namespace tidemark
