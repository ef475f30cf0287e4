#include "layers/scratch_format.h"

#include <algorithm>
#include <cstring>

#include "common/byte_order.h"
#include "common/crc32c.h"
#include "layers/layer_format.h"

namespace tidemark {

namespace {

constexpr char kHeaderMagic[8] = {'T', 'M', 'K', 'S', 'C', 'R', 'A', 'T'};
constexpr char kMarksMagic[8] = {'T', 'M', 'K', 'F', 'O', 'L', 'D', 'M'};
constexpr char kJournalMagic[8] = {'T', 'M', 'K', 'S', 'C', 'R', 'J', 'L'};
constexpr size_t kCrcOffset = kScratchPageBytes - 4;
constexpr size_t kPageCrcOffset = 12;

uint32_t page_checksum(const std::byte* page, uint32_t seed) noexcept {
  const uint32_t head = crc32c(page, kPageCrcOffset, seed);
  return crc32c(page + kScratchPageHeadBytes, kScratchPayloadBytes, head);
}

}  // namespace

ScratchGeometry ScratchGeometry::of(const ScratchIdentity& identity) noexcept {
  const uint64_t granules = granules_of(identity.size_bytes, identity.granularity_bytes);
  return {(granules + GranuleStates::kGranulesPerPage - 1) / GranuleStates::kGranulesPerPage};
}

// Header: magic 0, version 8, granularity 12, disk 16, scratch 32, size 48, base
// size 56, layer count 64, layers' checksum 68, the folded scratch 72 (of marks),
// zero to 4092, CRC-32C 4092.
void encode_scratch_header(const ScratchIdentity& identity, const Uuid& scratch,
                           std::byte* to) noexcept {
  const bool marks = !identity.folded_scratch.is_nil();
  std::memset(to, 0, kScratchPageBytes);
  std::memcpy(to, marks ? kMarksMagic : kHeaderMagic, sizeof kHeaderMagic);
  store_le<uint32_t>(to + 8, marks ? kFoldMarksFormatVersion : kScratchFormatVersion);
  store_le<uint32_t>(to + 12, identity.granularity_bytes);
  std::memcpy(to + 16, identity.disk.bytes.data(), 16);
  std::memcpy(to + 32, scratch.bytes.data(), 16);
  store_le<uint64_t>(to + 48, identity.size_bytes);
  store_le<uint64_t>(to + 56, identity.base_size_bytes);
  store_le<uint32_t>(to + 64, identity.layer_count);
  store_le<uint32_t>(to + 68, identity.layers_checksum);
  std::memcpy(to + 72, identity.folded_scratch.bytes.data(), 16);
  store_le<uint32_t>(to + kCrcOffset, crc32c(to, kCrcOffset));
}

Result<ScratchHeader> decode_scratch_header(const std::byte* from, const std::string& what) {
  const bool marks = std::memcmp(from, kMarksMagic, sizeof kMarksMagic) == 0;
  if (!marks && std::memcmp(from, kHeaderMagic, sizeof kHeaderMagic) != 0) {
    return Status{ErrorCode::kCorrupt,
                  what + ": because its index does not start as one does. Discard it."};
  }
  const auto version = load_le<uint32_t>(from + 8);
  const uint32_t known = marks ? kFoldMarksFormatVersion : kScratchFormatVersion;
  if (version != known) {
    return Status{ErrorCode::kVersion, what + ": because its format version is " +
                                           std::to_string(version) + ", this build reads version " +
                                           std::to_string(known) + ". Use a build that knows it."};
  }
  ScratchHeader header;
  header.seed = load_le<uint32_t>(from + kCrcOffset);
  if (header.seed != crc32c(from, kCrcOffset)) {
    return Status{ErrorCode::kCorrupt,
                  what + ": because the checksum of its index's header does not hold. Discard it."};
  }
  header.identity.granularity_bytes = load_le<uint32_t>(from + 12);
  std::memcpy(header.identity.disk.bytes.data(), from + 16, 16);
  std::memcpy(header.scratch.bytes.data(), from + 32, 16);
  header.identity.size_bytes = load_le<uint64_t>(from + 48);
  header.identity.base_size_bytes = load_le<uint64_t>(from + 56);
  header.identity.layer_count = load_le<uint32_t>(from + 64);
  header.identity.layers_checksum = load_le<uint32_t>(from + 68);
  if (marks) std::memcpy(header.identity.folded_scratch.bytes.data(), from + 72, 16);
  return header;
}

// Page: sequence 0, page number 8, CRC-32C 12 (of the 12 bytes before it and the
// payload), payload from 16.
void finish_scratch_page(std::byte* page, uint64_t page_number, uint64_t sequence,
                         uint32_t seed) noexcept {
  store_le<uint64_t>(page, sequence);
  store_le<uint32_t>(page + 8, static_cast<uint32_t>(page_number));
  store_le<uint32_t>(page + kPageCrcOffset, page_checksum(page, seed));
}

bool decode_scratch_page(const std::byte* from, uint32_t seed, ScratchPage& page) noexcept {
  page.sequence = load_le<uint64_t>(from);
  page.page_number = load_le<uint32_t>(from + 8);
  return load_le<uint32_t>(from + kPageCrcOffset) == page_checksum(from, seed);
}

bool is_blank_page(const std::byte* from) noexcept {
  return std::all_of(from, from + kScratchPageBytes, [](std::byte b) { return b == std::byte{0}; });
}

// Journal head: magic 0, sequence 8, pages 16, pages ever written 24, checksum of
// the pages 32, zero to 4092, CRC-32C 4092.
void encode_scratch_journal(const ScratchJournal& journal, uint32_t seed, std::byte* to) noexcept {
  std::memset(to, 0, kScratchPageBytes);
  std::memcpy(to, kJournalMagic, sizeof kJournalMagic);
  store_le<uint64_t>(to + 8, journal.sequence);
  store_le<uint64_t>(to + 16, journal.page_count);
  store_le<uint64_t>(to + 24, journal.pages_ever_written);
  store_le<uint32_t>(to + 32, journal.pages_checksum);
  store_le<uint32_t>(to + kCrcOffset, crc32c(to, kCrcOffset, seed));
}

bool decode_scratch_journal(const std::byte* from, uint32_t seed,
                            ScratchJournal& journal) noexcept {
  if (std::memcmp(from, kJournalMagic, sizeof kJournalMagic) != 0) return false;
  journal.sequence = load_le<uint64_t>(from + 8);
  journal.page_count = load_le<uint64_t>(from + 16);
  journal.pages_ever_written = load_le<uint64_t>(from + 24);
  journal.pages_checksum = load_le<uint32_t>(from + 32);
  return load_le<uint32_t>(from + kCrcOffset) == crc32c(from, kCrcOffset, seed);
}

}  // namespace tidemark
