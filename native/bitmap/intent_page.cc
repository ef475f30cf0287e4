#include "bitmap/intent_page.h"

#include <algorithm>
#include <cstring>

#include "common/byte_order.h"

namespace tidemark {

namespace {

constexpr char kHeaderMagic[] = "TMINTENT";
constexpr char kMarksMagic[] = "TMINTMRK";
constexpr size_t kMagicBytes = 8;
constexpr uint32_t kFlagExact = 1;
constexpr uint32_t kFlagDistrusted = 2;
constexpr uint32_t kMarksBytes = 448;  // in one sector
constexpr uint32_t kRegionsPerSector = kMarksBytes * 8;

enum Field : size_t {
  kMagicAt = 0,
  kFlagsAt = 8,        // of the header
  kSectorIndexAt = 8,  // of a sector of marks
  kShiftAt = 12,
  kDiskAt = 16,
  kCountAt = 32,  // of the header
  kMarksAt = 32,  // of a sector of marks
};

static_assert(kMarksAt + kMarksBytes <= kSealAt);
static_assert((1 + (kMaxRegions - 1) / kRegionsPerSector + 1) * IntentPage::kSectorBytes <=
              kIntentPageBytes);

void seal(SealedSector& sector, const char* magic, uint32_t shift, const Uuid& disk) noexcept {
  std::byte* at = sector.data();
  std::memcpy(at + kMagicAt, magic, kMagicBytes);
  store_le<uint32_t>(at + kShiftAt, shift);
  std::memcpy(at + kDiskAt, disk.bytes.data(), disk.bytes.size());
  seal_sector(sector);
}

bool is_sealed(IntentPage::SectorView sector, const char* magic, uint32_t shift,
               const Uuid& disk) noexcept {
  const std::byte* at = sector.data();
  return std::memcmp(at + kMagicAt, magic, kMagicBytes) == 0 &&
         load_le<uint32_t>(at + kShiftAt) == shift &&
         std::memcmp(at + kDiskAt, disk.bytes.data(), disk.bytes.size()) == 0 && seal_holds(sector);
}

}  // namespace

RegionLayout RegionLayout::of(uint64_t disk_size_bytes) noexcept {
  uint32_t shift = kMinRegionShift;
  while (((disk_size_bytes - 1) >> shift) >= kMaxRegions) ++shift;
  return {shift, static_cast<uint32_t>((disk_size_bytes - 1) >> shift) + 1};
}

uint32_t IntentPage::sector_count() const noexcept {
  return 1 + (layout_.count - 1) / kRegionsPerSector + 1;
}

IntentPage::Sector IntentPage::encode(uint32_t sector_index) const noexcept {
  return sector_index == 0 ? encode_header() : encode_marks(sector_index);
}

IntentPage::Sector IntentPage::encode_header() const noexcept {
  Sector sector{};
  store_le<uint32_t>(sector.data() + kFlagsAt,
                     (is_exact_ ? kFlagExact : 0) | (is_distrusted_ ? kFlagDistrusted : 0));
  store_le<uint32_t>(sector.data() + kCountAt, layout_.count);
  seal(sector, kHeaderMagic, layout_.shift, disk_);
  return sector;
}

IntentPage::Sector IntentPage::encode_marks(uint32_t sector_index) const noexcept {
  Sector sector{};
  const uint32_t first = (sector_index - 1) * kRegionsPerSector;
  const uint32_t end = std::min(first + kRegionsPerSector, layout_.count);
  for (uint32_t region = first; region < end; ++region) {
    if (!marks_[region]) continue;
    sector[kMarksAt + (region - first) / 8] |= std::byte{1} << (region % 8);
  }
  store_le<uint32_t>(sector.data() + kSectorIndexAt, sector_index);
  seal(sector, kMarksMagic, layout_.shift, disk_);
  return sector;
}

bool IntentPage::decode_header(SectorView sector) noexcept {
  const std::byte* at = sector.data();
  if (!is_sealed(sector, kHeaderMagic, layout_.shift, disk_)) return false;
  const auto flags = load_le<uint32_t>(at + kFlagsAt);
  is_exact_ = (flags & kFlagExact) != 0;
  is_distrusted_ = (flags & kFlagDistrusted) != 0;
  return (flags & ~(kFlagExact | kFlagDistrusted)) == 0 &&
         load_le<uint32_t>(at + kCountAt) == layout_.count;
}

bool IntentPage::decode_marks(SectorView sector, uint32_t sector_index) noexcept {
  const std::byte* at = sector.data();
  if (!is_sealed(sector, kMarksMagic, layout_.shift, disk_)) return false;
  if (load_le<uint32_t>(at + kSectorIndexAt) != sector_index) return false;
  const uint32_t first = (sector_index - 1) * kRegionsPerSector;
  const uint32_t end = std::min(first + kRegionsPerSector, layout_.count);
  for (uint32_t region = first; region < end; ++region) {
    const std::byte bits = at[kMarksAt + (region - first) / 8];
    marks_[region] = (bits & (std::byte{1} << (region % 8))) != std::byte{0};
  }
  return true;
}

// The marks of a page that is not exact mean nothing, and may not be there.
Result<IntentPage> IntentPage::decode(std::span<const std::byte, kIntentPageBytes> bytes,
                                      const Uuid& disk, RegionLayout layout) {
  IntentPage page(disk, layout);
  const auto header = bytes.first<kSectorBytes>();
  const auto is_zero = [](std::byte byte) { return byte == std::byte{0}; };
  if (std::all_of(header.begin(), header.end(), is_zero)) return page;
  bool holds = page.decode_header(header);
  for (uint32_t i = 1; holds && page.is_exact_ && i < page.sector_count(); ++i) {
    holds = page.decode_marks(bytes.subspan(i * kSectorBytes).first<kSectorBytes>(), i);
  }
  if (holds) return page;
  return Status(ErrorCode::kCorrupt, "its intent log is damaged");
}

}  // namespace tidemark
