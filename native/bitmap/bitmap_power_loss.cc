// What power loss may take, and what is suspect after it.
#include "bitmap/dirty_bitmap_impl.h"

namespace tidemark {

// A page that cannot be read says no more than one that is not exact.
IntentPage DirtyBitmap::Impl::known_page(const BitmapFile& file) {
  const Result<IntentPage> page = file.intent_page();
  if (page.is_ok()) return page.value();
  return {file.header().disk, RegionLayout::of(file.header().disk_size_bytes)};
}

Status DirtyBitmap::Impl::sync(const BlockMap& map, WordRange words) {
  Status status = file.sync(map, words);
  if (!status.is_ok()) intents.distrust(status);
  return status;
}

Status DirtyBitmap::Impl::write_header(const BitmapHeader& header) {
  Status status = file.write_header(header);
  if (!status.is_ok()) intents.distrust(status);
  return status;
}

Status DirtyBitmap::Impl::sync_live(uint64_t offset_bytes, uint64_t length_bytes) {
  const auto blocks = touched_blocks(offset_bytes, length_bytes);
  if (!blocks) return Status::ok();
  const WordRange words{blocks->first / 64, (blocks->first + blocks->count - 1) / 64 + 1};
  for (const BlockMap& map : live_maps) {
    if (Status status = sync(map, words); !status.is_ok()) return status;
  }
  return Status::ok();
}

// On another boot (or an unknown one) the page cache of the last one is gone: what
// was written to a marked region, its marks and the disk's own content may be old.
// The clean flag does not matter: a close that could not flush leaves its marks.
Status DirtyBitmap::Impl::suspect_what_was_marked() {
  const IntentPage page = known_page(file);
  const Uuid boot = file.storage().boot();
  const bool is_same_boot = !boot.is_nil() && boot == file.header().boot;
  if (page.is_distrusted()) return suspect(0, disk_size_bytes);
  if (is_same_boot) return Status::ok();
  const uint64_t region_bytes = page.layout().region_bytes();
  for (uint32_t first = 0; first < page.layout().count; ++first) {
    if (!page.is_marked(first)) continue;
    uint32_t end = first + 1;
    while (end < page.layout().count && page.is_marked(end)) ++end;
    Status status = suspect(first * region_bytes, (end - first) * region_bytes);
    if (!status.is_ok()) return status;
    first = end;
  }
  return Status::ok();
}

Status DirtyBitmap::Impl::suspect(uint64_t offset_bytes, uint64_t length_bytes) {
  const auto blocks = touched_blocks(offset_bytes, length_bytes);
  if (!blocks) return Status::ok();
  const uint64_t last = blocks->first + blocks->count - 1;
  for (BlockMap* destination : merge_destinations()) {
    destination->mark(blocks->first, last);
    Status status = sync(*destination, {blocks->first / 64, last / 64 + 1});
    if (!status.is_ok()) return status;
  }
  return Status::ok();
}

IntentLog& DirtyBitmap::intents() const noexcept { return impl().intents; }

Status DirtyBitmap::sync_live(uint64_t offset_bytes, uint64_t length_bytes) {
  if (!impl().file.is_open()) return impl().check_usable(0);
  return impl().sync_live(offset_bytes, length_bytes);
}

Status DirtyBitmap::suspect(uint64_t offset_bytes, uint64_t length_bytes) {
  if (!impl().file.is_open()) return impl().check_usable(0);
  return impl().suspect(offset_bytes, length_bytes);
}

Status DirtyBitmap::sync_pending(uint32_t slot) {
  if (Status status = impl().check_usable(slot); !status.is_ok()) return status;
  const uint64_t word_count = impl().file.layout().map_bytes / sizeof(uint64_t);
  return impl().sync(impl().slots[slot]->pending, {0, word_count});
}

}  // namespace tidemark
