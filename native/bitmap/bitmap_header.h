// The checksummed first sector of a bitmap file, decoded.
//
// It changes rarely (open, close, a target added or removed) and is then
// written whole with one pwrite() of 512 bytes. The kernel copies these within
// one page in one step, so that a killed process leaves the old sector or the
// new one; power loss may tear a page but not a sector. What changes all the
// time (live index, heartbeat) lies outside of the checksum, see BitmapFile.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "bitmap/backing_fingerprint.h"
#include "bitmap/dirty_bitmap.h"
#include "bitmap/suspicion.h"
#include "common/sealed_sector.h"
#include "common/status.h"
#include "common/uuid.h"

namespace tidemark {

inline constexpr uint32_t kBitmapFormatVersion = 2;
inline constexpr size_t kBitmapHeaderBytes = kSealedSectorBytes;

struct BitmapHeader {
  using Sector = SealedSector;

  Uuid disk;
  uint64_t disk_size_bytes = 0;
  uint32_t granularity_bytes = 0;
  bool clean = false;
  Uuid lineage;                           // nil: not assigned
  Uuid boot;                              // of the kernel that wrote this sector; nil: unknown
  uint64_t sequence = 0;                  // counts the writes of this sector
  std::array<Uuid, kMaxTargets> targets;  // nil: the slot is free
  std::array<SuspicionCauses, kMaxTargets> suspicion_causes{};
  BackingFingerprint fingerprint;
  // Who may write: docs/formats/disk-state.md.
  bool handed_over = false;  // the state was exported: this file owns the disk no more
  Uuid hand_over;            // of the last export, import or take-over; nil: there was none
  uint64_t owner_epoch = 0;  // rises each time the disk changes hands

  Sector encode() const noexcept;

  // `sector` may be shorter than a sector when the file is: kTruncated. Else
  // kCorrupt or kVersion; the message is a reason ("its ... does not ...").
  static Result<BitmapHeader> decode(std::span<const std::byte> sector);
};

}  // namespace tidemark
