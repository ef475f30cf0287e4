// DirtyBitmap: which blocks of a disk changed, for each of up to 16 targets, in
// one memory-mapped file that survives the process.
//
// Representation. One file: a 4 KiB header page and a reserved area, then maps
// of equal length, one bit a block, each starting on a page: live 0, live 1, then for each target
// slot pending, in-flight, staged and suspect. The file is sized for all slots; the
// pages of the header, the live maps and the slots in use are allocated, so
// that a full file system is met when a target is added and never as SIGBUS
// under a guest's write. A summary (one bit for each 64-byte line of a map) is
// kept in memory only and rebuilt at open; it makes an empty or sparse scan
// cost nearly nothing. docs/formats/bitmap.md describes every byte.
//
// Life of a bit. mark() sets it in the current live map. flip() swaps the live
// maps under the checkpoint gate; merge_closed() then moves the closed map into
// the pending map of every target; take_pending() moves one target's pending
// map into its in-flight map. From there commit() drops it, give_back() returns
// it to pending, stage() moves it to staged (the replica holds it in a staging
// session; a later commit drops both). Every move sets the destination and makes
// it durable before it clears the source: a bit is always set somewhere.
//
// Suspect is the fourth map of a target: blocks of which nobody knows whether the
// target has them (the disk was changed out of sight, or marks of it were lost).
// Suspect is never clean: whoever asks what a target lacks takes it as well.
// Comparing with the replica settles a block: clear_suspect() when equal,
// suspect_to_pending() when not.
//
// Growth. A larger disk gets a new file beside the old one, with coarser blocks
// when one map would exceed kMaxMapBytes. While it is filled every mark goes to
// both; the rename over the old file is followed by one pointer's change, so
// that at any instant the file that bears the name has every bit. The maps of
// the smaller size stay mapped until the object goes, for readers on other
// threads: a few MiB a growth.
//
// Threads. mark(), is_dirty() and next_extent() run on any thread. All else is
// called by one thread at a time (the owner serialises: TrackedDevice does).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "bitmap/backing_fingerprint.h"
#include "bitmap/bitmap_storage.h"
#include "bitmap/intent_log.h"
#include "bitmap/suspicion.h"
#include "common/status.h"
#include "common/uuid.h"

namespace tidemark {

inline constexpr uint32_t kMaxTargets = 16;
inline constexpr uint32_t kMinGranularityBytes = 4096;
inline constexpr uint64_t kMaxMapBytes = 32ULL << 20;

// 4 KiB, doubled until one map of the disk is at most kMaxMapBytes.
uint32_t default_granularity_bytes(uint64_t disk_size_bytes) noexcept;

// Which map: a value type, e.g. MapId::pending(slot).
struct MapId {
  enum class Kind : uint8_t { kLive, kClosed, kPending, kInFlight, kStaged, kSuspect };
  Kind kind = Kind::kLive;
  uint32_t slot = 0;

  static constexpr MapId live() { return {Kind::kLive, 0}; }
  static constexpr MapId closed() {
    return {Kind::kClosed, 0};
  }  // the live map that is not current
  static constexpr MapId pending(uint32_t slot) { return {Kind::kPending, slot}; }
  static constexpr MapId in_flight(uint32_t slot) { return {Kind::kInFlight, slot}; }
  static constexpr MapId staged(uint32_t slot) { return {Kind::kStaged, slot}; }
  static constexpr MapId suspect(uint32_t slot) { return {Kind::kSuspect, slot}; }
};

struct ByteExtent {
  uint64_t offset_bytes;
  uint64_t length_bytes;
};

class DirtyBitmap {
 public:
  struct Parameters {
    Uuid disk;
    uint64_t disk_size_bytes = 0;
    uint32_t granularity_bytes = 0;  // 0: default_granularity_bytes(disk_size_bytes)
    Durability durability = Durability::kPowerSafe;
  };
  struct Target {
    uint32_t slot;
    Uuid id;
  };

  // Fails with kAlreadyExists when the file is there: never overwrites.
  // `storage` outlives the bitmap.
  static Result<std::unique_ptr<DirtyBitmap>> create(
      const std::string& path, const Parameters& parameters,
      BitmapStorage& storage = file_bitmap_storage());

  // Errors, each its own: kNotFound, kTruncated, kCorrupt (magic, checksum,
  // impossible numbers), kVersion, kForeign (another disk, or one that was cut),
  // kInUse (another process or object holds it). The nil UUID stands for
  // whichever disk the file names. After an unclean end
  // opened_clean() is false and pending := pending | in-flight | live was done
  // for each target (staged and suspect stay). Was the last use on another boot, what
  // power loss may have taken back is suspect for every target: the regions that the
  // intent log has marked, and only those.
  // The closed map is empty after any open. A disk that is larger than the map
  // has grown: what lies past the map's end is pending for every target.
  static Result<std::unique_ptr<DirtyBitmap>> open(const std::string& path, const Uuid& disk,
                                                   uint64_t disk_size_bytes,
                                                   BitmapStorage& storage = file_bitmap_storage(),
                                                   Durability durability = Durability::kPowerSafe);

  ~DirtyBitmap();  // without close(): as after a crash
  DirtyBitmap(const DirtyBitmap&) = delete;
  DirtyBitmap& operator=(const DirtyBitmap&) = delete;

  // Syncs everything, sets the clean flag, syncs that, drops the lock. Idempotent.
  // Nothing may mark any more. Fails, and leaves the file unclean, when a sync
  // failed now or earlier.
  Status close();

  const Uuid& disk() const noexcept;
  uint64_t disk_size_bytes() const noexcept;
  uint32_t granularity_bytes() const noexcept;
  uint64_t block_count() const noexcept;
  bool opened_clean() const noexcept;

  // Marks every block that [offset, offset + length) touches (rounds out) in
  // the live map. Lock-free; about one load when the blocks are marked already.
  void mark(uint64_t offset_bytes, uint64_t length_bytes) noexcept;

  // -- Power loss ---------------------------------------------------------
  // Of the present maps: who writes asks it first. Any thread.
  IntentLog& intents() const noexcept;
  // Makes the live maps durable where they hold these bytes.
  Status sync_live(uint64_t offset_bytes, uint64_t length_bytes);
  // For every target what its mark_suspect() does: regions, as of intents().
  Status suspect_regions(std::span<const uint32_t> regions, SuspicionCause cause);

  // -- Targets ------------------------------------------------------------
  // Its slot; kAlreadyExists, kLimitReached, kNoSpace. What `pending` touches is
  // durably marked before the target is there; with causes, so is every block suspect.
  Result<uint32_t> add_target(const Uuid& id, std::span<const ByteExtent> pending = {},
                              SuspicionCauses causes = 0);
  Status remove_target(uint32_t slot);
  std::optional<uint32_t> find_target(const Uuid& id) const;
  std::vector<Target> targets() const;
  // Rounds out. For what must travel though nothing wrote it (initial replication, suspicion).
  // Durable with sync_pending().
  void mark_pending(uint32_t slot, uint64_t offset_bytes, uint64_t length_bytes) noexcept;
  Status sync_pending(uint32_t slot);

  // -- Moves --------------------------------------------------------------
  // One that fails (kIo) has cleared nothing and may be called again. After a
  // failed merge_closed() the closed map is not empty: no flip until it succeeds.
  void flip() noexcept;   // only under a closed gate, closed map empty
  Status merge_closed();  // closed -> pending of every target; none: -> live
  // pending -> in-flight: the first blocks up to `max_bytes`, at least one.
  Status take_pending(uint32_t slot, uint64_t max_bytes = UINT64_MAX);
  Status give_back(uint32_t slot);  // in-flight -> pending
  Status stage(uint32_t slot);      // in-flight -> staged
  Status unstage(uint32_t slot);    // staged -> pending
  Status commit(uint32_t slot);     // drops in-flight and staged
  // Clears the blocks that lie wholly inside (rounds in) from the pending map.
  void clear_pending(uint32_t slot, uint64_t offset_bytes, uint64_t length_bytes) noexcept;

  // -- Suspicion ----------------------------------------------------------
  // Rounds out; durable on return. On failure the bits are set all the same.
  Status mark_suspect(uint32_t slot, uint64_t offset_bytes, uint64_t length_bytes,
                      SuspicionCauses causes);
  Status mark_suspect(uint32_t slot, uint64_t offset_bytes, uint64_t length_bytes,
                      SuspicionCause cause) {
    return mark_suspect(slot, offset_bytes, length_bytes, static_cast<SuspicionCauses>(cause));
  }
  Status mark_all_suspect(SuspicionCauses causes);  // of every target
  Status mark_all_suspect(SuspicionCause cause) {
    return mark_all_suspect(static_cast<SuspicionCauses>(cause));
  }
  // Rounds in. Only for what was read since `suspicion_count()` last changed, and
  // compared equal with the target's head.
  void clear_suspect(uint32_t slot, uint64_t offset_bytes, uint64_t length_bytes) noexcept;
  // Of the ranges, rounded out: what is suspect there is durably pending before it is
  // not. One sync for all of them.
  Status suspect_to_pending(uint32_t slot, std::span<const ByteExtent> ranges);
  Status suspect_to_pending(uint32_t slot, uint64_t offset_bytes, uint64_t length_bytes) {
    const ByteExtent range{offset_bytes, length_bytes};
    return suspect_to_pending(slot, {&range, 1});
  }
  // What is staged as well: the replica's session holds other content than its head,
  // with which a comparison compares. It travels again.
  Status suspect_staged_to_pending(uint32_t slot);
  // Forgets the causes, once no block is suspect (else kInUse).
  Status end_suspicion(uint32_t slot);
  SuspicionCauses suspicion_causes(uint32_t slot) const noexcept;
  // Changes with every mark_suspect(): a comparison that began before one proves nothing.
  uint64_t suspicion_count(uint32_t slot) const noexcept;

  // -- The backing's fingerprint ------------------------------------------
  // Durable until settled: a crash in between has it looked at again.
  const BackingFingerprint& fingerprint() const noexcept;
  // What came of looking at it, before anything may be written: with causes, every
  // block of every target is suspect; then `now` takes its place.
  Status settle_fingerprint(SuspicionCauses causes, const BackingFingerprint& now);
  // For a close() that follows: as of then nothing writes any more.
  Status keep_fingerprint(const BackingFingerprint& closed);

  // -- An older copy of this file, put back -------------------------------
  // Rises with every change of the header, over all opens. Who keeps it elsewhere, and
  // finds a smaller one at an open, has an older copy: marks made since are not in it.
  uint64_t sequence() const noexcept;
  // Durably one above it and `above`; on failure it stays.
  Result<uint64_t> advance_sequence(uint64_t above = 0);

  // -- Growth -------------------------------------------------------------
  // Makes the larger map's file, all of the new area pending; from here on marks
  // go to both. On failure nothing has changed.
  Status begin_growth(uint64_t disk_size_bytes);
  // The same for a disk that is cut: what was marked past its end is dropped, and blocks
  // keep their size. finish_growth() or give_up_growth() follow.
  Status begin_shrink(uint64_t disk_size_bytes);
  // After begin_growth(), once every mark that began before it has returned. On
  // failure the growth is given up; the disk has its old size.
  Status finish_growth();
  void give_up_growth() noexcept;

  // -- Reading ------------------------------------------------------------
  // Unknown is never clean: a slot without a target answers that all is dirty.
  bool is_dirty(MapId map, uint64_t block_index) const noexcept;
  // The first run of dirty blocks that ends after `from_bytes`, from there on, cut
  // to at most max_bytes and to the disk's size (the last block may be partial).
  std::optional<ByteExtent> next_extent(MapId map, uint64_t from_bytes,
                                        uint64_t max_bytes) const noexcept;
  uint64_t dirty_block_count(MapId map) const noexcept;

 private:
  class Impl;
  explicit DirtyBitmap(std::unique_ptr<Impl> impl);

  // The maps of the disk's present size.
  Impl& impl() const noexcept { return *current_.load(std::memory_order_acquire); }
  Impl& adopt(std::unique_ptr<Impl> impl);
  Status grow_to(uint64_t disk_size_bytes);  // nobody marks yet
  Status begin_successor(uint64_t disk_size_bytes);
  // At the open: what the end of a boot may have taken back, by what the intent log says.
  Status suspect_what_was_marked();

  std::atomic<Impl*> current_{nullptr};
  // The current one, a growing one, and those of smaller sizes. The owner's.
  std::vector<std::unique_ptr<Impl>> impls_;
};

}  // namespace tidemark
