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

uint64_t DirtyBitmap::sequence() const noexcept { return impl().file.header().sequence; }

Result<uint64_t> DirtyBitmap::advance_sequence(uint64_t above) {
  Result<uint64_t> advanced = impl().file.advance_sequence(above);
  if (!advanced.is_ok()) impl().intents.distrust(advanced.status());
  return advanced;
}

Status DirtyBitmap::Impl::write_header(const BitmapHeader& header) {
  Status status = file.write_header(header);
  if (!status.is_ok()) intents.distrust(status);
  return status;
}

Status DirtyBitmap::Impl::sync_live(uint64_t offset_bytes, uint64_t length_bytes) {
  const auto blocks = touched_blocks(offset_bytes, length_bytes);
  if (!blocks) return Status::ok();
  const auto words = WordRange::of_blocks(blocks->first, blocks->first + blocks->count - 1);
  for (const BlockMap& map : live_maps) {
    if (Status status = sync(map, words); !status.is_ok()) return status;
  }
  return Status::ok();
}

// On another boot (or an unknown one) the page cache of the last one is gone: what
// was written to a marked region, its marks and the disk's own content may be old.
// The clean flag does not matter: a close that could not flush leaves its marks.
Status DirtyBitmap::suspect_what_was_marked() {
  const BitmapFile& file = impl().file;
  const IntentPage page = Impl::known_page(file);
  if (page.is_distrusted()) return mark_all_suspect(SuspicionCause::kLogTrouble);
  const Uuid boot = file.storage().boot();
  if (!boot.is_nil() && boot == file.header().boot) return Status::ok();
  if (!file.intent_page().is_ok()) return mark_all_suspect(SuspicionCause::kLogTrouble);
  if (!page.is_exact()) return mark_all_suspect(SuspicionCause::kUncleanEnd);
  std::vector<uint32_t> marked;
  for (uint32_t region = 0; region < page.layout().count; ++region) {
    if (page.is_marked(region)) marked.push_back(region);
  }
  return suspect_regions(marked, SuspicionCause::kPowerLoss);
}

// Neighbours together: the fewest syncs.
Status DirtyBitmap::suspect_regions(std::span<const uint32_t> regions, SuspicionCause cause) {
  const uint64_t region_bytes = intents().layout().region_bytes();
  Status first;
  for (size_t i = 0; i < regions.size();) {
    size_t end = i + 1;
    while (end < regions.size() && regions[end] == regions[end - 1] + 1) ++end;
    for (const Target& target : targets()) {
      Status status =
          mark_suspect(target.slot, regions[i] * region_bytes, (end - i) * region_bytes, cause);
      if (first.is_ok()) first = std::move(status);
    }
    i = end;
  }
  return first;
}

IntentLog& DirtyBitmap::intents() const noexcept { return impl().intents; }

Status DirtyBitmap::sync_live(uint64_t offset_bytes, uint64_t length_bytes) {
  if (!impl().file.is_open()) return impl().check_usable(0);
  return impl().sync_live(offset_bytes, length_bytes);
}

Status DirtyBitmap::sync_pending(uint32_t slot) {
  if (Status status = impl().check_usable(slot); !status.is_ok()) return status;
  const uint64_t word_count = impl().file.layout().map_bytes / sizeof(uint64_t);
  return impl().sync(impl().slots[slot]->pending, {0, word_count});
}

}  // namespace tidemark
