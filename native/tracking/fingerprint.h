// Fingerprints of backings: did anybody write to the disk while the filter was away?
//
// The identity tells a replaced file, the size a grown or cut one, the modification
// time one that was written. Times can be put back (a restore that preserves them) and
// block devices and NBD exports have none, so some tens of blocks are sampled as well:
// the places that a mounted file system writes first, and others at random. A change
// that all of this misses is possible; docs/traps.md says so.
#pragma once

#include "bitmap/backing_fingerprint.h"
#include "bitmap/dirty_bitmap.h"
#include "bitmap/suspicion.h"
#include "device/block_device.h"

namespace tidemark {

// Once the backing is flushed and nothing writes any more. Blocks.
Result<BackingFingerprint> take_fingerprint(BlockDevice& backing, uint64_t seed);

// Of one that is open and will be written to.
Result<BackingFingerprint> identity_fingerprint(const BlockDevice& backing);

// What speaks against the backing being what it was; 0: nothing. What cannot be looked
// at is kNoFingerprint.
SuspicionCauses compare_fingerprint(BlockDevice& backing, const BackingFingerprint& known);

// The same for one that was moved or copied on purpose: another file with another time is
// what one expects, and size and sampled content must be what they were.
SuspicionCauses compare_moved_fingerprint(BlockDevice& backing, const BackingFingerprint& known);

// Looks at the backing of a bitmap that was just opened: with anything against it, every
// block of every target is suspect, durably. Before the first write. Answers the causes.
Result<SuspicionCauses> settle_fingerprint(BlockDevice& backing, DirtyBitmap& bitmap);

// Flushes the backing, and keeps its fingerprint for a bitmap that is about to be closed.
// One that cannot be had is none, and the next open suspects everything.
Status keep_fingerprint(BlockDevice& backing, DirtyBitmap& bitmap);

}  // namespace tidemark
