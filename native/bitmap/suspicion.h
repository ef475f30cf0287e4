// Why blocks are suspect: what is known of how their content got out of sight.
// One bit each in the header of the bitmap file, so a value never changes its meaning.
#pragma once

#include <cstdint>

namespace tidemark {

enum class SuspicionCause : uint16_t {
  kUncleanEnd = 1 << 0,       // of an unknown boot, or in a mode that leaves nothing to go by
  kPowerLoss = 1 << 1,        // the kernel that had the writes in its cache is gone
  kLostWrites = 1 << 2,       // a flush failed, or an upstream came back without its cache
  kLogTrouble = 1 << 3,       // the intent log could not be kept
  kReplaced = 1 << 4,         // the backing is another file or device
  kSizeChanged = 1 << 5,      // the backing shrank or grew while nobody looked
  kModified = 1 << 6,         // it was written while the filter was away
  kContentDiffers = 1 << 7,   // sampled blocks do not read as they did at the close
  kNoFingerprint = 1 << 8,    // closed without a fingerprint: whatever happened does not show
  kMapLost = 1 << 9,          // the bitmap was missing, damaged, foreign or of another version
  kReplicaDiffers = 1 << 10,  // the replica's head is not what was last agreed on
  kOrdered = 1 << 11,         // an administrator asked for the comparison
  kTakenByForce = 1 << 12,    // the disk was taken over without its last holder's state
  kForeignWrite = 1 << 13,    // the backing was written past the filter, which was running
  kUnmarkedWrite = 1 << 14,   // a known write was in no map: tracking was not alive
};

using SuspicionCauses = uint16_t;  // a set of them; 0: none

}  // namespace tidemark
