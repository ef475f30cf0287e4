#include "bitmap/bitmap_header.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "bitmap/bitmap_layout.h"
#include "common/byte_order.h"

namespace tidemark {

namespace {

constexpr char kMagic[] = "TMBITMAP";
constexpr size_t kMagicBytes = 8;
constexpr uint32_t kFlagClean = 1;
constexpr uint32_t kFlagHandedOver = 2;
constexpr uint32_t kKnownFlags = kFlagClean | kFlagHandedOver;

enum Field : size_t {
  kMagicAt = 0,
  kVersionAt = 8,
  kFlagsAt = 12,
  kDiskAt = 16,
  kDiskSizeAt = 32,
  kBlockCountAt = 40,
  kMapBytesAt = 48,
  kMapsOffsetAt = 56,
  kGranularityAt = 64,
  kTargetLimitAt = 68,
  kLineageAt = 72,
  kBootAt = 88,
  kSequenceAt = 104,
  kTargetsAt = 112,
  kSuspicionCausesAt = 368,
  kFingerprintAt = 400,
  kHandOverAt = 476,
  kOwnerEpochAt = 492,
};

static_assert(kOwnerEpochAt + sizeof(uint64_t) <= kSealAt);

void store_uuid(std::byte* to, const Uuid& uuid) noexcept {
  std::memcpy(to, uuid.bytes.data(), uuid.bytes.size());
}

Uuid load_uuid(const std::byte* from) noexcept {
  Uuid uuid;
  std::memcpy(uuid.bytes.data(), from, uuid.bytes.size());
  return uuid;
}

// Offsets within the fingerprint.
enum FingerprintField : size_t {
  kStateAt = 0,
  kSampleCountAt = 4,
  kIdentityAt = 8,
  kSizeAt = 32,
  kModifiedAt = 40,
  kSampleSeedAt = 48,
  kSamplesAt = 56,
};

void store_fingerprint(std::byte* at, const BackingFingerprint& fingerprint) noexcept {
  store_le<uint32_t>(at + kStateAt, static_cast<uint32_t>(fingerprint.state));
  store_le<uint32_t>(at + kSampleCountAt, fingerprint.sample_count);
  std::memcpy(at + kIdentityAt, fingerprint.identity.data(), fingerprint.identity.size());
  store_le<uint64_t>(at + kSizeAt, fingerprint.size_bytes);
  store_le<uint64_t>(at + kModifiedAt, static_cast<uint64_t>(fingerprint.modified_ns));
  store_le<uint64_t>(at + kSampleSeedAt, fingerprint.sample_seed);
  std::memcpy(at + kSamplesAt, fingerprint.samples.data(), fingerprint.samples.size());
}

BackingFingerprint load_fingerprint(const std::byte* at) noexcept {
  BackingFingerprint fingerprint;
  fingerprint.state = static_cast<BackingFingerprint::State>(load_le<uint32_t>(at + kStateAt));
  fingerprint.sample_count = load_le<uint32_t>(at + kSampleCountAt);
  std::memcpy(fingerprint.identity.data(), at + kIdentityAt, fingerprint.identity.size());
  fingerprint.size_bytes = load_le<uint64_t>(at + kSizeAt);
  fingerprint.modified_ns = static_cast<int64_t>(load_le<uint64_t>(at + kModifiedAt));
  fingerprint.sample_seed = load_le<uint64_t>(at + kSampleSeedAt);
  std::memcpy(fingerprint.samples.data(), at + kSamplesAt, fingerprint.samples.size());
  return fingerprint;
}

// What it samples is read in a time that nobody waits for: a damaged count must not matter.
bool fingerprint_holds(const std::byte* at) noexcept {
  constexpr uint32_t kMostSamples = 1024;
  return load_le<uint32_t>(at + kFingerprintAt + kStateAt) <= 2 &&
         load_le<uint32_t>(at + kFingerprintAt + kSampleCountAt) <= kMostSamples;
}

// Every number of the sector that follows from disk size and granularity.
bool numbers_hold(const std::byte* at) noexcept {
  const auto disk_size_bytes = load_le<uint64_t>(at + kDiskSizeAt);
  const auto granularity_bytes = load_le<uint32_t>(at + kGranularityAt);
  if (!BitmapLayout::is_valid(disk_size_bytes, granularity_bytes)) return false;
  const BitmapLayout layout = BitmapLayout::of(disk_size_bytes, granularity_bytes);
  return load_le<uint64_t>(at + kBlockCountAt) == layout.block_count &&
         load_le<uint64_t>(at + kMapBytesAt) == layout.map_bytes &&
         load_le<uint64_t>(at + kMapsOffsetAt) == kBitmapMapsOffsetBytes &&
         load_le<uint32_t>(at + kTargetLimitAt) == kMaxTargets &&
         (load_le<uint32_t>(at + kFlagsAt) & ~kKnownFlags) == 0 && fingerprint_holds(at);
}

Status check(std::span<const std::byte> sector) {
  const std::byte* at = sector.data();
  if (std::memcmp(at, kMagic, std::min(sector.size(), kMagicBytes)) != 0) {
    return {ErrorCode::kCorrupt, "it does not begin as a bitmap file does"};
  }
  if (sector.size() < kBitmapHeaderBytes) {
    return {ErrorCode::kTruncated, "it is shorter than its header"};
  }
  if (!seal_holds(sector.first<kBitmapHeaderBytes>())) {
    return {ErrorCode::kCorrupt, "its header's checksum does not hold"};
  }
  const auto version = load_le<uint32_t>(at + kVersionAt);
  if (version != kBitmapFormatVersion) {
    return {ErrorCode::kVersion, "it has format version " + std::to_string(version) +
                                     ", and this build knows version " +
                                     std::to_string(kBitmapFormatVersion)};
  }
  if (!numbers_hold(at)) return {ErrorCode::kCorrupt, "its header holds impossible numbers"};
  return Status::ok();
}

}  // namespace

BitmapHeader::Sector BitmapHeader::encode() const noexcept {
  const BitmapLayout layout = BitmapLayout::of(disk_size_bytes, granularity_bytes);
  Sector sector{};
  std::byte* at = sector.data();
  std::memcpy(at + kMagicAt, kMagic, kMagicBytes);
  store_le<uint32_t>(at + kVersionAt, kBitmapFormatVersion);
  store_le<uint32_t>(at + kFlagsAt, (clean ? kFlagClean : 0) | (handed_over ? kFlagHandedOver : 0));
  store_uuid(at + kDiskAt, disk);
  store_le<uint64_t>(at + kDiskSizeAt, disk_size_bytes);
  store_le<uint64_t>(at + kBlockCountAt, layout.block_count);
  store_le<uint64_t>(at + kMapBytesAt, layout.map_bytes);
  store_le<uint64_t>(at + kMapsOffsetAt, kBitmapMapsOffsetBytes);
  store_le<uint32_t>(at + kGranularityAt, granularity_bytes);
  store_le<uint32_t>(at + kTargetLimitAt, kMaxTargets);
  store_uuid(at + kLineageAt, lineage);
  store_uuid(at + kBootAt, boot);
  store_le<uint64_t>(at + kSequenceAt, sequence);
  for (uint32_t slot = 0; slot < kMaxTargets; ++slot) {
    store_uuid(at + kTargetsAt + slot * sizeof(Uuid), targets[slot]);
    store_le<uint16_t>(at + kSuspicionCausesAt + slot * 2, suspicion_causes[slot]);
  }
  store_fingerprint(at + kFingerprintAt, fingerprint);
  store_uuid(at + kHandOverAt, hand_over);
  store_le<uint64_t>(at + kOwnerEpochAt, owner_epoch);
  seal_sector(sector);
  return sector;
}

Result<BitmapHeader> BitmapHeader::decode(std::span<const std::byte> sector) {
  if (Status status = check(sector); !status.is_ok()) return status;
  const std::byte* at = sector.data();
  BitmapHeader header;
  header.disk = load_uuid(at + kDiskAt);
  header.disk_size_bytes = load_le<uint64_t>(at + kDiskSizeAt);
  header.granularity_bytes = load_le<uint32_t>(at + kGranularityAt);
  header.clean = (load_le<uint32_t>(at + kFlagsAt) & kFlagClean) != 0;
  header.handed_over = (load_le<uint32_t>(at + kFlagsAt) & kFlagHandedOver) != 0;
  header.lineage = load_uuid(at + kLineageAt);
  header.boot = load_uuid(at + kBootAt);
  header.sequence = load_le<uint64_t>(at + kSequenceAt);
  for (uint32_t slot = 0; slot < kMaxTargets; ++slot) {
    header.targets[slot] = load_uuid(at + kTargetsAt + slot * sizeof(Uuid));
    header.suspicion_causes[slot] = load_le<uint16_t>(at + kSuspicionCausesAt + slot * 2);
  }
  header.fingerprint = load_fingerprint(at + kFingerprintAt);
  header.hand_over = load_uuid(at + kHandOverAt);
  header.owner_epoch = load_le<uint64_t>(at + kOwnerEpochAt);
  return header;
}

}  // namespace tidemark
