// BitmapFile: a bitmap's file on disk: locked, allocated, mapped.
//
// Owns the storage's file (and with it lock and mapping) and the header. The
// header sector is written whole; the run-time words of the same page and the
// maps are used in the mapping. Called by one thread at a time.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "bitmap/bitmap_header.h"
#include "bitmap/bitmap_layout.h"
#include "bitmap/bitmap_storage.h"
#include "bitmap/block_map.h"
#include "bitmap/intent_page.h"
#include "bitmap/intent_storage.h"
#include "common/status.h"

namespace tidemark {

class BitmapFile {
 public:
  // Durable when it returns, its directory entry too. A process that is killed
  // meanwhile leaves nothing behind where the file system knows O_TMPFILE.
  static Result<BitmapFile> create(BitmapStorage& storage, const std::string& path,
                                   const BitmapHeader& header);
  // Errors as DirtyBitmap::open, but for kForeign. Allocates what its header
  // says is in use again: a copy of the file may have lost that.
  static Result<BitmapFile> open(BitmapStorage& storage, const std::string& path);

  BitmapStorage& storage() const noexcept { return *storage_; }
  const std::string& path() const noexcept { return path_; }
  const BitmapHeader& header() const noexcept { return header_; }
  const BitmapLayout& layout() const noexcept { return layout_; }
  bool is_open() const noexcept { return file_->is_locked(); }

  // Where the file for a grown disk is made, until it takes the name of `path`.
  static std::string grown_path(const std::string& path) { return path + ".grow"; }
  // What an interrupted growth of this file left; for the holder of its lock.
  void remove_grown() const noexcept { storage_->remove(grown_path(path_)); }
  // Takes the name of another file, which loses it. An error only when it did
  // not: a directory that could not be synced shows as sync_has_failed().
  Status replace(const std::string& path);

  // Durable when it returns; on failure header() stays as it was.
  Status write_header(BitmapHeader header);
  // A sequence above the header's and `above`; its page alone is made durable.
  Result<uint64_t> advance_sequence(uint64_t above);
  // The slot's maps, allocated and zero. kNoSpace: what it had is released.
  Status allocate_slot(uint32_t slot);
  Status release_slot(uint32_t slot);

  // All of it. Writable while nobody else uses the object; durable with sync_everything().
  std::byte* bytes() const noexcept { return file_->data(); }
  // The map at this place of the file.
  BlockMap map_at(uint64_t offset_bytes) const;
  // Every block of every target; for who owns the object alone. Not durable yet.
  void mark_all_suspect() noexcept;
  // Makes these words of a map durable.
  Status sync(const BlockMap& map, WordRange words);
  Status sync_everything();
  // Before anything follows from what another holder of this boot left: the next sync
  // covers all that is in use, whatever syncs of that holder failed.
  void renew() noexcept;
  // A sync failed before. The kernel reports that once and drops the pages from its
  // list: later ones begin by renewing what they cover.
  bool sync_has_failed() const noexcept { return *sync_has_failed_; }

  // The intent log's page, as it is now, and where its later versions go. That works
  // beside everything else here until close(), and not longer than this object.
  Result<IntentPage> intent_page() const;
  std::unique_ptr<IntentStorage> intent_storage() const;

  // -1: neither 0 nor 1 is stored. One atomic store, so that a killed process
  // leaves the old index or the new one.
  int live_index() const noexcept;
  void store_live_index(uint32_t index) noexcept;
  void store_heartbeat() noexcept;

  // Drops the lock. The mapping stays until the object goes.
  void close() noexcept;

 private:
  using StoredFile = std::unique_ptr<BitmapStorage::File>;

  BitmapFile(BitmapStorage& storage, std::string path, StoredFile file, const BitmapHeader& header);
  static Result<BitmapFile> map(BitmapStorage& storage, const std::string& path, StoredFile file,
                                const BitmapHeader& header);
  Status note(Status status) noexcept;

  BitmapStorage* storage_;
  std::string path_;
  StoredFile file_;  // never null, but after a move
  BitmapHeader header_;
  BitmapLayout layout_;
  // Shared with the intent log's thread, whose sync may be the one that is told of a
  // failure. Never null, but after a move.
  std::unique_ptr<std::atomic<bool>> sync_has_failed_ = std::make_unique<std::atomic<bool>>(false);
};

}  // namespace tidemark
