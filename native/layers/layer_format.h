// The bytes of a layer file and of a segment's index blob; docs/formats/layer.md
// is their description. Everything is little endian. The decoders take hostile
// input: they check every length before use and answer with a Status.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/status.h"
#include "layers/layer.h"

namespace tidemark {

inline constexpr uint32_t kLayerFormatVersion = 1;
inline constexpr size_t kLayerHeaderBytes = 4096;
inline constexpr size_t kLayerExtentBytes = 32;
inline constexpr size_t kLayerChecksumBytes = 4;
inline constexpr size_t kLayerFooterBytes = 64;
inline constexpr uint64_t kLayerIndexAlignmentBytes = 4096;
inline constexpr uint64_t kLargestDiskBytes = INT64_MAX;

void encode_extent(const LayerExtent& extent, std::byte* to) noexcept;
LayerExtent decode_extent(const std::byte* from) noexcept;

// Powers of two from 512 B to 64 MiB.
bool is_valid_granularity(uint64_t granularity_bytes) noexcept;

// Checksums that `length_bytes` of data take.
constexpr uint64_t granules_of(uint64_t length_bytes, uint32_t granularity_bytes) noexcept {
  return length_bytes / granularity_bytes + (length_bytes % granularity_bytes != 0 ? 1 : 0);
}

// What every list of extents must hold: sorted and disjoint on the disk, whole
// granules (but for a piece that ends at `disk_end_bytes`), data inside
// [data_begin, data_end) of the file, checksum numbers that count up.
struct ExtentRules {
  uint32_t granularity_bytes = 0;
  uint64_t disk_end_bytes = 0;
  uint64_t data_begin_bytes = 0;
  uint64_t data_end_bytes = 0;
};

// Checks extents one after another; keeps the sums that a footer states.
class ExtentChecker {
 public:
  explicit ExtentChecker(const ExtentRules& rules) noexcept : rules_(rules) {}

  // Null when `extent` may follow the ones before, else what is wrong with it.
  const char* add(const LayerExtent& extent) noexcept;

  uint64_t checksum_count() const noexcept { return checksum_count_; }
  uint64_t data_bytes() const noexcept { return data_bytes_; }
  uint64_t zero_bytes() const noexcept { return zero_bytes_; }

 private:
  const char* check_data(const LayerExtent& extent) const noexcept;

  ExtentRules rules_;
  uint64_t disk_position_bytes_ = 0;
  uint64_t checksum_count_ = 0;
  uint64_t data_bytes_ = 0;
  uint64_t zero_bytes_ = 0;
};

struct LayerHeader {
  LayerIdentity identity;
  uint64_t file_bytes = 0;
  uint32_t checksum = 0;  // LayerSummary::checksum, as in the footer
};

using LayerHeaderPage = std::array<std::byte, kLayerHeaderBytes>;
LayerHeaderPage encode_header(const LayerHeader& header) noexcept;
// `what` opens the message of a failure.
Result<LayerHeader> decode_header(const LayerHeaderPage& page, const std::string& what);

struct LayerFooter {
  uint64_t index_offset_bytes = 0;
  uint64_t checksum_count = 0;
  LayerSummary summary;
};

using LayerFooterBytes = std::array<std::byte, kLayerFooterBytes>;
LayerFooterBytes encode_footer(const LayerFooter& footer) noexcept;
Result<LayerFooter> decode_footer(const LayerFooterBytes& bytes, const std::string& what);

// The start of LayerSummary::checksum: over the identity; the index continues it.
uint32_t identity_checksum(const LayerIdentity& identity) noexcept;

// What one LayerSegmentWriter put into its region.
struct SegmentIndex {
  uint32_t granularity_bytes = 0;
  uint64_t region_offset_bytes = 0;
  uint64_t capacity_bytes = 0;
  std::vector<LayerExtent> extents;  // sorted; checksum numbers count within the segment
  std::vector<uint32_t> checksums;
};

std::vector<std::byte> encode_segment_index(const SegmentIndex& index);
// `disk_size_bytes` ends the disk for the rules above.
Result<SegmentIndex> decode_segment_index(std::span<const std::byte> blob, uint64_t disk_size_bytes,
                                          const std::string& what);

}  // namespace tidemark
