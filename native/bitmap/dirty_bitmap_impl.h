// DirtyBitmap's state, shared by its translation units: reading and marking
// (dirty_bitmap.cc), the life of a bit (bitmap_moves.cc), suspicion
// (bitmap_suspicion.cc), targets (bitmap_targets.cc), opening and closing (bitmap_lifecycle.cc),
// growing (bitmap_growth.cc).
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <memory>
#include <span>
#include <string_view>

#include "bitmap/bitmap_file.h"
#include "bitmap/block_map.h"
#include "bitmap/dirty_bitmap.h"
#include "bitmap/intent_log.h"

namespace tidemark {

class DirtyBitmap::Impl {
 public:
  struct TargetMaps {
    BlockMap pending;
    BlockMap in_flight;
    BlockMap staged;
    BlockMap suspect;
    uint64_t suspicion_count = 0;  // calls of mark_suspect() since the open
  };

  Impl(BitmapFile bitmap_file, bool was_clean, Durability durability);

  BlockMap& live() noexcept { return live_maps[live_index.load(std::memory_order_acquire)]; }
  BlockMap& closed() noexcept { return live_maps[1 - live_index.load(std::memory_order_acquire)]; }
  // Null: no target has this slot.
  TargetMaps* maps_of(uint32_t slot) const noexcept {
    return slot < kMaxTargets ? slots[slot].get() : nullptr;
  }
  const BlockMap* find(MapId map) noexcept;
  void mark(uint64_t offset_bytes, uint64_t length_bytes) noexcept {
    const auto blocks = touched_blocks(offset_bytes, length_bytes);
    if (blocks) live().mark(blocks->first, blocks->first + blocks->count - 1);
  }
  // Blocks [first, last] that the bytes touch; nothing outside of the disk.
  std::optional<BlockRun> touched_blocks(uint64_t offset_bytes,
                                         uint64_t length_bytes) const noexcept;

  // Rounds out; durable on return. On failure the bits are set all the same.
  Status make_suspect(uint32_t slot, uint64_t offset_bytes, uint64_t length_bytes);

  static IntentPage known_page(const BitmapFile& file);
  // file.sync(); one that fails makes everything suspect at the next unclean start.
  Status sync(const BlockMap& map, WordRange words);
  Status write_header(const BitmapHeader& header);
  // Both live maps, where they hold these blocks.
  Status sync_live(uint64_t offset_bytes, uint64_t length_bytes);

  // Those that lie wholly inside; a partial last one does when the disk's end does.
  std::optional<BlockRun> covered_blocks(uint64_t offset_bytes,
                                         uint64_t length_bytes) const noexcept;

  // kClosed after close(), kNotFound for a slot without target.
  Status check_usable(uint32_t slot) const;
  Status move(BlockMap& source, std::span<BlockMap* const> destinations,
              std::string_view failpoint_name);
  Status move_first(BlockMap& source, BlockMap& destination, uint64_t max_blocks);
  // Where bits of the live maps go: every target's pending map. Without a
  // target they wait in the current live map.
  std::vector<BlockMap*> merge_destinations() noexcept;

  Status note_causes(uint32_t slot, SuspicionCauses more);
  void load_target(uint32_t slot);
  // The state of the maps that follow: their file exists, only what is new of a larger
  // disk is marked.
  Result<std::unique_ptr<Impl>> make_successor(uint64_t new_size_bytes) const;
  // Marks there what is marked here, map by map.
  void copy_marks_to(Impl& successor_maps) noexcept;
  Status begin_target(uint32_t slot, std::span<const ByteExtent> pending, SuspicionCauses causes);
  bool acts_on_what_was_left() noexcept;
  Status load();     // kCorrupt: a map holds bits past the last block
  Status recover();  // after an unclean end
  Status begin();    // recovers where needed, then takes the clean flag down

  BitmapFile file;
  IntentLog intents;
  const uint64_t disk_size_bytes;
  const uint32_t granularity_shift;
  const bool opened_clean;

  // What these maps grow into, or grew into: who marks here marks there too.
  std::atomic<Impl*> successor{nullptr};

  // Written by flip() under the closed gate, read by every marking thread.
  std::atomic<uint32_t> live_index{0};
  // Their bits are shared by all threads; see BlockMap.
  std::array<BlockMap, kLiveMaps> live_maps;

  // The owner's thread writes these; a reader may use a slot it knows to exist.
  std::array<std::unique_ptr<TargetMaps>, kMaxTargets> slots;
  Status close_status;
};

}  // namespace tidemark
