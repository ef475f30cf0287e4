#include "bitmap/dirty_bitmap.h"

#include <algorithm>
#include <cassert>

#include "bitmap/dirty_bitmap_impl.h"

namespace tidemark {

uint32_t default_granularity_bytes(uint64_t disk_size_bytes) noexcept {
  constexpr uint32_t kLargest = 1U << 31;
  uint32_t granularity_bytes = kMinGranularityBytes;
  while (granularity_bytes < kLargest &&
         disk_size_bytes > kMaxMapBytes * 8 * uint64_t{granularity_bytes}) {
    granularity_bytes *= 2;
  }
  return granularity_bytes;
}

const BlockMap* DirtyBitmap::Impl::find(MapId map) noexcept {
  if (map.kind == MapId::Kind::kLive) return &live();
  if (map.kind == MapId::Kind::kClosed) return &closed();
  const TargetMaps* maps = maps_of(map.slot);
  if (maps == nullptr) return nullptr;
  if (map.kind == MapId::Kind::kPending) return &maps->pending;
  if (map.kind == MapId::Kind::kInFlight) return &maps->in_flight;
  return map.kind == MapId::Kind::kStaged ? &maps->staged : &maps->suspect;
}

std::optional<BlockRun> DirtyBitmap::Impl::touched_blocks(uint64_t offset_bytes,
                                                          uint64_t length_bytes) const noexcept {
  if (length_bytes == 0 || offset_bytes >= disk_size_bytes) return std::nullopt;
  const uint64_t last_byte =
      offset_bytes + std::min(length_bytes, disk_size_bytes - offset_bytes) - 1;
  const uint64_t first = offset_bytes >> granularity_shift;
  return BlockRun{first, (last_byte >> granularity_shift) - first + 1};
}

std::optional<BlockRun> DirtyBitmap::Impl::covered_blocks(uint64_t offset_bytes,
                                                          uint64_t length_bytes) const noexcept {
  if (offset_bytes >= disk_size_bytes) return std::nullopt;
  const uint64_t end_bytes = offset_bytes + std::min(length_bytes, disk_size_bytes - offset_bytes);
  const uint64_t skipped = offset_bytes != 0;
  const uint64_t first = ((offset_bytes - skipped) >> granularity_shift) + skipped;
  const bool ends_disk = end_bytes == disk_size_bytes;
  const uint64_t end = ends_disk ? file.layout().block_count : end_bytes >> granularity_shift;
  if (first >= end) return std::nullopt;
  return BlockRun{first, end - first};
}

DirtyBitmap::DirtyBitmap(std::unique_ptr<Impl> impl) { current_ = &adopt(std::move(impl)); }
DirtyBitmap::~DirtyBitmap() = default;

DirtyBitmap::Impl& DirtyBitmap::adopt(std::unique_ptr<Impl> impl) {
  impls_.push_back(std::move(impl));
  return *impls_.back();
}

const Uuid& DirtyBitmap::disk() const noexcept { return impl().file.header().disk; }
uint64_t DirtyBitmap::disk_size_bytes() const noexcept { return impl().disk_size_bytes; }
uint32_t DirtyBitmap::granularity_bytes() const noexcept {
  return impl().file.header().granularity_bytes;
}
uint64_t DirtyBitmap::block_count() const noexcept { return impl().file.layout().block_count; }
bool DirtyBitmap::opened_clean() const noexcept { return impl().opened_clean; }

void DirtyBitmap::mark(uint64_t offset_bytes, uint64_t length_bytes) noexcept {
  Impl& maps = impl();
  maps.mark(offset_bytes, length_bytes);
  // Not reset when the growth is over: who still marks here must mark there.
  Impl* const larger = maps.successor.load(std::memory_order_acquire);
  if (larger != nullptr) [[unlikely]] {
    larger->mark(offset_bytes, length_bytes);
  }
}

void DirtyBitmap::mark_pending(uint32_t slot, uint64_t offset_bytes,
                               uint64_t length_bytes) noexcept {
  Impl::TargetMaps* maps = impl().maps_of(slot);
  assert(maps != nullptr);
  const auto blocks = impl().touched_blocks(offset_bytes, length_bytes);
  if (maps && blocks) maps->pending.mark(blocks->first, blocks->first + blocks->count - 1);
}

void DirtyBitmap::clear_pending(uint32_t slot, uint64_t offset_bytes,
                                uint64_t length_bytes) noexcept {
  Impl::TargetMaps* maps = impl().maps_of(slot);
  assert(maps != nullptr);
  const auto blocks = impl().covered_blocks(offset_bytes, length_bytes);
  if (maps && blocks) maps->pending.clear(blocks->first, blocks->first + blocks->count - 1);
}

bool DirtyBitmap::is_dirty(MapId map, uint64_t block_index) const noexcept {
  Impl& maps = impl();
  const BlockMap* blocks = maps.find(map);
  return block_index < maps.file.layout().block_count &&
         (blocks == nullptr || blocks->is_marked(block_index));
}

std::optional<ByteExtent> DirtyBitmap::next_extent(MapId map, uint64_t from_bytes,
                                                   uint64_t max_bytes) const noexcept {
  Impl& maps = impl();
  const uint64_t size_bytes = maps.disk_size_bytes;
  if (from_bytes >= size_bytes || max_bytes == 0) return std::nullopt;
  const BlockMap* blocks = maps.find(map);
  if (blocks == nullptr) {
    return ByteExtent{from_bytes, std::min(max_bytes, size_bytes - from_bytes)};
  }
  const uint32_t shift = maps.granularity_shift;
  // Two more: `from` and the end may each lie inside a block.
  const auto run = blocks->next_run(from_bytes >> shift, (max_bytes >> shift) + 2);
  if (!run) return std::nullopt;
  const uint64_t start = std::max(run->first << shift, from_bytes);
  const uint64_t end = std::min((run->first + run->count) << shift, size_bytes);
  return ByteExtent{start, std::min(max_bytes, end - start)};
}

uint64_t DirtyBitmap::dirty_block_count(MapId map) const noexcept {
  Impl& maps = impl();
  const BlockMap* blocks = maps.find(map);
  return blocks == nullptr ? maps.file.layout().block_count : blocks->count();
}

}  // namespace tidemark
