// The index blob of one segment: encode_segment_index(), decode_segment_index().

#include <cstring>

#include "common/byte_order.h"
#include "common/crc32c.h"
#include "layers/layer_format.h"

namespace tidemark {

namespace {

constexpr char kMagic[8] = {'T', 'M', 'K', 'L', 'S', 'E', 'G', 'I'};
constexpr size_t kHeadBytes = 48;
constexpr size_t kTailBytes = 4;

Status corrupt(const std::string& what, const std::string& because) {
  return {ErrorCode::kCorrupt, what + ": because " + because + ". Receive the segment again."};
}

// Null when the blob is one of this version with a checksum that holds.
Status check_envelope(std::span<const std::byte> blob, const std::string& what) {
  if (blob.size() < kHeadBytes + kTailBytes) return corrupt(what, "the blob is too short");
  if (std::memcmp(blob.data(), kMagic, sizeof kMagic) != 0) {
    return corrupt(what, "the blob does not start as a segment's index does");
  }
  const auto version = load_le<uint32_t>(blob.data() + 8);
  if (version != kLayerFormatVersion) {
    return {ErrorCode::kVersion, what + ": because the blob's format version is " +
                                     std::to_string(version) + ", this build reads version " +
                                     std::to_string(kLayerFormatVersion) +
                                     ". Receive the segment again."};
  }
  const size_t covered_bytes = blob.size() - kTailBytes;
  if (load_le<uint32_t>(blob.data() + covered_bytes) != crc32c(blob.data(), covered_bytes)) {
    return corrupt(what, "the blob's checksum does not hold");
  }
  return Status::ok();
}

bool counts_fit(size_t blob_bytes, uint64_t extent_count, uint64_t checksum_count) noexcept {
  const uint64_t payload_bytes = blob_bytes - kHeadBytes - kTailBytes;
  if (extent_count > payload_bytes / kLayerExtentBytes) return false;
  const uint64_t left_bytes = payload_bytes - extent_count * kLayerExtentBytes;
  return left_bytes % kLayerChecksumBytes == 0 &&
         checksum_count == left_bytes / kLayerChecksumBytes;
}

Status check_extents(const SegmentIndex& index, uint64_t disk_size_bytes, const std::string& what) {
  ExtentChecker checker({index.granularity_bytes, disk_size_bytes, index.region_offset_bytes,
                         index.region_offset_bytes + index.capacity_bytes});
  for (LayerExtent extent : index.extents) {
    const uint64_t first = extent.first_checksum_index;
    const uint64_t count =
        extent.is_zero() ? 0 : granules_of(extent.length_bytes, index.granularity_bytes);
    if (first > index.checksums.size() || count > index.checksums.size() - first) {
      return corrupt(what, "a checksum number does not fit");
    }
    // In a blob the checksums are in the order of arrival, not of the disk.
    extent.first_checksum_index = checker.checksum_count();
    if (const char* wrong = checker.add(extent)) return corrupt(what, wrong);
  }
  if (checker.checksum_count() != index.checksums.size()) {
    return corrupt(what, "the number of checksums does not fit");
  }
  return Status::ok();
}

}  // namespace

// Blob: magic 0, version 8, granularity 12, region offset 16, capacity 24, extents
// 32, checksums 40, the extents from 48, the checksums, CRC-32C of all that.
std::vector<std::byte> encode_segment_index(const SegmentIndex& index) {
  std::vector<std::byte> blob(kHeadBytes + index.extents.size() * kLayerExtentBytes +
                              index.checksums.size() * kLayerChecksumBytes + kTailBytes);
  std::byte* to = blob.data();
  std::memcpy(to, kMagic, sizeof kMagic);
  store_le<uint32_t>(to + 8, kLayerFormatVersion);
  store_le<uint32_t>(to + 12, index.granularity_bytes);
  store_le<uint64_t>(to + 16, index.region_offset_bytes);
  store_le<uint64_t>(to + 24, index.capacity_bytes);
  store_le<uint64_t>(to + 32, index.extents.size());
  store_le<uint64_t>(to + 40, index.checksums.size());
  to += kHeadBytes;
  for (const LayerExtent& extent : index.extents) {
    encode_extent(extent, to);
    to += kLayerExtentBytes;
  }
  for (const uint32_t checksum : index.checksums) {
    store_le<uint32_t>(to, checksum);
    to += kLayerChecksumBytes;
  }
  store_le<uint32_t>(to, crc32c(blob.data(), blob.size() - kTailBytes));
  return blob;
}

Result<SegmentIndex> decode_segment_index(std::span<const std::byte> blob, uint64_t disk_size_bytes,
                                          const std::string& what) {
  if (Status status = check_envelope(blob, what); !status.is_ok()) return status;
  SegmentIndex index;
  index.granularity_bytes = load_le<uint32_t>(blob.data() + 12);
  index.region_offset_bytes = load_le<uint64_t>(blob.data() + 16);
  index.capacity_bytes = load_le<uint64_t>(blob.data() + 24);
  const auto extent_count = load_le<uint64_t>(blob.data() + 32);
  const auto checksum_count = load_le<uint64_t>(blob.data() + 40);
  if (!is_valid_granularity(index.granularity_bytes))
    return corrupt(what, "its granularity is odd");
  if (index.region_offset_bytes < kLayerDataOffset ||
      index.region_offset_bytes > kLargestDiskBytes ||
      index.capacity_bytes > kLargestDiskBytes - index.region_offset_bytes) {
    return corrupt(what, "its region is not one of a file");
  }
  if (!counts_fit(blob.size(), extent_count, checksum_count)) {
    return corrupt(what, "its counts do not fit its length");
  }
  const std::byte* from = blob.data() + kHeadBytes;
  index.extents.reserve(extent_count);
  for (uint64_t i = 0; i < extent_count; ++i, from += kLayerExtentBytes) {
    index.extents.push_back(decode_extent(from));
  }
  index.checksums.reserve(checksum_count);
  for (uint64_t i = 0; i < checksum_count; ++i, from += kLayerChecksumBytes) {
    index.checksums.push_back(load_le<uint32_t>(from));
  }
  if (Status status = check_extents(index, disk_size_bytes, what); !status.is_ok()) return status;
  return index;
}

}  // namespace tidemark
