#include "layers/layer_format.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "common/byte_order.h"
#include "common/crc32c.h"

namespace tidemark {

namespace {

constexpr char kHeaderMagic[8] = {'T', 'M', 'K', 'L', 'A', 'Y', 'E', 'R'};
constexpr char kFooterMagic[8] = {'T', 'M', 'K', 'L', 'F', 'O', 'O', 'T'};
constexpr uint32_t kSealedMark = 0x4c414553;  // "SEAL"
constexpr size_t kHeaderCrcOffset = kLayerHeaderBytes - 4;
constexpr size_t kFooterCrcOffset = kLayerFooterBytes - 4;
constexpr size_t kIdentityBytes = 56;
constexpr uint32_t kSmallestGranularity = 512;
constexpr uint32_t kLargestGranularity = 64U << 20;

void encode_identity(const LayerIdentity& identity, std::byte* to) noexcept {
  std::memset(to, 0, kIdentityBytes);
  std::memcpy(to, identity.disk.bytes.data(), 16);
  std::memcpy(to + 16, identity.lineage.bytes.data(), 16);
  store_le<uint64_t>(to + 32, identity.sequence);
  store_le<uint64_t>(to + 40, identity.disk_size_bytes);
  store_le<uint32_t>(to + 48, identity.granularity_bytes);
}

LayerIdentity decode_identity(const std::byte* from) noexcept {
  LayerIdentity identity;
  std::memcpy(identity.disk.bytes.data(), from, 16);
  std::memcpy(identity.lineage.bytes.data(), from + 16, 16);
  identity.sequence = load_le<uint64_t>(from + 32);
  identity.disk_size_bytes = load_le<uint64_t>(from + 40);
  identity.granularity_bytes = load_le<uint32_t>(from + 48);
  return identity;
}

Status corrupt(const std::string& what, const std::string& because) {
  return {ErrorCode::kCorrupt,
          what + ": because " + because + ". Fetch this recovery point again or drop it."};
}

bool is_blank(std::span<const std::byte> bytes) noexcept {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

}  // namespace

void encode_extent(const LayerExtent& extent, std::byte* to) noexcept {
  store_le<uint64_t>(to, extent.disk_offset_bytes);
  store_le<uint64_t>(to + 8, extent.length_bytes);
  store_le<uint64_t>(to + 16, extent.file_offset_bytes);
  store_le<uint64_t>(to + 24, extent.first_checksum_index);
}

LayerExtent decode_extent(const std::byte* from) noexcept {
  return {load_le<uint64_t>(from), load_le<uint64_t>(from + 8), load_le<uint64_t>(from + 16),
          load_le<uint64_t>(from + 24)};
}

bool is_valid_granularity(uint64_t granularity_bytes) noexcept {
  return std::has_single_bit(granularity_bytes) && granularity_bytes >= kSmallestGranularity &&
         granularity_bytes <= kLargestGranularity;
}

const char* ExtentChecker::check_data(const LayerExtent& extent) const noexcept {
  if (extent.file_offset_bytes < rules_.data_begin_bytes ||
      extent.file_offset_bytes > rules_.data_end_bytes ||
      extent.length_bytes > rules_.data_end_bytes - extent.file_offset_bytes) {
    return "an extent's data lies outside of the data area";
  }
  return nullptr;
}

const char* ExtentChecker::add(const LayerExtent& extent) noexcept {
  const uint64_t granularity = rules_.granularity_bytes;
  if (extent.length_bytes == 0) return "an extent is empty";
  if (extent.disk_offset_bytes % granularity != 0) return "an extent starts inside a block";
  if (extent.disk_offset_bytes > rules_.disk_end_bytes ||
      extent.length_bytes > rules_.disk_end_bytes - extent.disk_offset_bytes) {
    return "an extent lies beyond the disk's end";
  }
  if (extent.length_bytes % granularity != 0 && extent.disk_end_bytes() != rules_.disk_end_bytes) {
    return "an extent ends inside a block";
  }
  if (extent.disk_offset_bytes < disk_position_bytes_) return "extents overlap or are not sorted";
  if (extent.first_checksum_index != checksum_count_) return "a checksum number does not fit";
  disk_position_bytes_ = extent.disk_end_bytes();
  if (extent.is_zero()) {
    zero_bytes_ += extent.length_bytes;
    return nullptr;
  }
  checksum_count_ += granules_of(extent.length_bytes, rules_.granularity_bytes);
  data_bytes_ += extent.length_bytes;
  return check_data(extent);
}

// Header page: magic 0, version 8, sealed mark 12, identity 16..72, file size 72,
// checksum 80, zero to 4092, CRC-32C of all that 4092.
LayerHeaderPage encode_header(const LayerHeader& header) noexcept {
  LayerHeaderPage page{};
  std::memcpy(page.data(), kHeaderMagic, sizeof kHeaderMagic);
  store_le<uint32_t>(page.data() + 8, kLayerFormatVersion);
  store_le<uint32_t>(page.data() + 12, kSealedMark);
  encode_identity(header.identity, page.data() + 16);
  store_le<uint64_t>(page.data() + 72, header.file_bytes);
  store_le<uint32_t>(page.data() + 80, header.checksum);
  store_le<uint32_t>(page.data() + kHeaderCrcOffset, crc32c(page.data(), kHeaderCrcOffset));
  return page;
}

Result<LayerHeader> decode_header(const LayerHeaderPage& page, const std::string& what) {
  if (is_blank(page)) return corrupt(what, "it was never sealed");
  if (std::memcmp(page.data(), kHeaderMagic, sizeof kHeaderMagic) != 0) {
    return corrupt(what, "it does not start as a layer does");
  }
  const auto version = load_le<uint32_t>(page.data() + 8);
  if (version != kLayerFormatVersion) {
    return Status{ErrorCode::kVersion, what + ": because its format version is " +
                                           std::to_string(version) + ", this build reads version " +
                                           std::to_string(kLayerFormatVersion) +
                                           ". Use a build that knows it."};
  }
  if (load_le<uint32_t>(page.data() + kHeaderCrcOffset) != crc32c(page.data(), kHeaderCrcOffset)) {
    return corrupt(what, "the checksum of its header does not hold");
  }
  if (load_le<uint32_t>(page.data() + 12) != kSealedMark) {
    return corrupt(what, "it was never sealed");
  }
  return LayerHeader{decode_identity(page.data() + 16), load_le<uint64_t>(page.data() + 72),
                     load_le<uint32_t>(page.data() + 80)};
}

// Footer: magic 0, index offset 8, extents 16, checksums 24, data bytes 32, zero
// bytes 40, checksum 48, zero 52..60, CRC-32C of all that 60.
LayerFooterBytes encode_footer(const LayerFooter& footer) noexcept {
  LayerFooterBytes bytes{};
  std::memcpy(bytes.data(), kFooterMagic, sizeof kFooterMagic);
  store_le<uint64_t>(bytes.data() + 8, footer.index_offset_bytes);
  store_le<uint64_t>(bytes.data() + 16, footer.summary.extent_count);
  store_le<uint64_t>(bytes.data() + 24, footer.checksum_count);
  store_le<uint64_t>(bytes.data() + 32, footer.summary.data_bytes);
  store_le<uint64_t>(bytes.data() + 40, footer.summary.zero_bytes);
  store_le<uint32_t>(bytes.data() + 48, footer.summary.checksum);
  store_le<uint32_t>(bytes.data() + kFooterCrcOffset, crc32c(bytes.data(), kFooterCrcOffset));
  return bytes;
}

Result<LayerFooter> decode_footer(const LayerFooterBytes& bytes, const std::string& what) {
  if (std::memcmp(bytes.data(), kFooterMagic, sizeof kFooterMagic) != 0 ||
      load_le<uint32_t>(bytes.data() + kFooterCrcOffset) !=
          crc32c(bytes.data(), kFooterCrcOffset)) {
    return corrupt(what, "its footer is damaged");
  }
  LayerFooter footer;
  footer.index_offset_bytes = load_le<uint64_t>(bytes.data() + 8);
  footer.summary.extent_count = load_le<uint64_t>(bytes.data() + 16);
  footer.checksum_count = load_le<uint64_t>(bytes.data() + 24);
  footer.summary.data_bytes = load_le<uint64_t>(bytes.data() + 32);
  footer.summary.zero_bytes = load_le<uint64_t>(bytes.data() + 40);
  footer.summary.checksum = load_le<uint32_t>(bytes.data() + 48);
  return footer;
}

uint32_t identity_checksum(const LayerIdentity& identity) noexcept {
  std::byte bytes[kIdentityBytes];
  encode_identity(identity, bytes);
  return crc32c(bytes, sizeof bytes);
}

}  // namespace tidemark
