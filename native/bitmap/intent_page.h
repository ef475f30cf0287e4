// IntentPage: which regions of a disk may hold writes that power loss takes back,
// as the page of the bitmap file that says so (docs/formats/bitmap.md).
//
// Representation: one bit a region. A disk has at most kMaxRegions of them, so that
// everything fits one 4 KiB page, which is written and synced in one piece: a header
// sector and up to five sectors of marks, each of 512 bytes with a checksum of its
// own. A region is 64 MiB, doubled until the disk has few enough: small enough to be
// read and compared within a second, large enough that a disk of 1 TiB that is
// written all over waits for at most 16384 syncs, and a group commit shares those.
//
// A page that is not exact says that every region may hold such writes; so does one
// that was never written (all zero).
#pragma once

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <span>

#include "common/sealed_sector.h"
#include "common/status.h"
#include "common/uuid.h"

namespace tidemark {

inline constexpr uint64_t kIntentPageOffsetBytes = 4096;  // in the bitmap file
inline constexpr size_t kIntentPageBytes = 4096;
inline constexpr uint32_t kMaxRegions = 16384;
inline constexpr uint32_t kMinRegionShift = 26;  // 64 MiB

struct RegionLayout {
  uint32_t shift;
  uint32_t count;

  static RegionLayout of(uint64_t disk_size_bytes) noexcept;
  uint64_t region_bytes() const noexcept { return uint64_t{1} << shift; }
  bool operator==(const RegionLayout&) const = default;
};

class IntentPage {
 public:
  static constexpr size_t kSectorBytes = kSealedSectorBytes;
  using Sector = SealedSector;
  using SectorView = std::span<const std::byte, kSectorBytes>;

  // Not exact.
  IntentPage(const Uuid& disk, RegionLayout layout) noexcept : disk_(disk), layout_(layout) {}
  // kCorrupt, with a reason, for what is neither empty nor this disk's page.
  static Result<IntentPage> decode(std::span<const std::byte, kIntentPageBytes> bytes,
                                   const Uuid& disk, RegionLayout layout);

  const Uuid& disk() const noexcept { return disk_; }
  const RegionLayout& layout() const noexcept { return layout_; }
  bool is_exact() const noexcept { return is_exact_; }
  // Syncs failed: whatever the maps say, nothing of it may be believed after an unclean end.
  bool is_distrusted() const noexcept { return is_distrusted_; }
  bool is_marked(uint32_t region) const noexcept { return !is_exact_ || marks_[region]; }

  void set_exact(bool is_exact) noexcept { is_exact_ = is_exact; }
  void set_distrusted(bool is_distrusted) noexcept { is_distrusted_ = is_distrusted; }
  void mark(uint32_t region) noexcept { marks_.set(region); }

  // Sector 0 is the header.
  uint32_t sector_count() const noexcept;
  Sector encode(uint32_t sector_index) const noexcept;

 private:
  Sector encode_header() const noexcept;
  Sector encode_marks(uint32_t sector_index) const noexcept;
  bool decode_header(SectorView sector) noexcept;
  bool decode_marks(SectorView sector, uint32_t sector_index) noexcept;

  Uuid disk_;
  RegionLayout layout_;
  bool is_exact_ = false;
  bool is_distrusted_ = false;
  std::bitset<kMaxRegions> marks_;
};

}  // namespace tidemark
