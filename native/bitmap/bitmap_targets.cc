#include <algorithm>

#include "bitmap/dirty_bitmap_impl.h"
#include "common/failpoint.h"

namespace tidemark {

namespace {

Status cannot_add(const std::string& path, ErrorCode code, const std::string& reason) {
  return {code, "Cannot add a target to the bitmap " + path + ": because " + reason};
}

}  // namespace

void DirtyBitmap::Impl::load_target(uint32_t slot) {
  const uint64_t offset_bytes = file.layout().slot_offset_bytes(slot);
  const uint64_t map_bytes = file.layout().map_bytes;
  const auto map = [&](uint64_t index) { return file.map_at(offset_bytes + index * map_bytes); };
  slots[slot] = std::make_unique<TargetMaps>(TargetMaps{map(0), map(1), map(2), map(3)});
}

// Before the target is listed, so that one that is listed has its bits.
Status DirtyBitmap::Impl::begin_target(uint32_t slot, std::span<const ByteExtent> pending,
                                       SuspicionCauses causes) {
  if (Status status = file.allocate_slot(slot); !status.is_ok()) return status;
  load_target(slot);
  BlockMap& map = slots[slot]->pending;
  WordRange touched;
  for (const ByteExtent& extent : pending) {
    const auto blocks = touched_blocks(extent.offset_bytes, extent.length_bytes);
    if (!blocks) continue;
    const uint64_t last = blocks->first + blocks->count - 1;
    map.mark(blocks->first, last);
    touched.include(WordRange::of_blocks(blocks->first, last));
  }
  if (Status status = sync(map, touched); !status.is_ok()) return status;
  return causes == 0 ? Status::ok() : make_suspect(slot, 0, disk_size_bytes);
}

Result<uint32_t> DirtyBitmap::add_target(const Uuid& id, std::span<const ByteExtent> pending,
                                         SuspicionCauses causes) {
  BitmapFile& file = impl().file;
  if (!file.is_open()) return cannot_add(file.path(), ErrorCode::kClosed, "it is closed.");
  if (id.is_nil()) {
    return cannot_add(file.path(), ErrorCode::kInvalidArgument, "its UUID is nil.");
  }
  if (find_target(id)) {
    return cannot_add(file.path(), ErrorCode::kAlreadyExists, id.to_string() + " is there.");
  }
  BitmapHeader header = file.header();
  const auto* free = std::find(header.targets.begin(), header.targets.end(), Uuid{});
  if (free == header.targets.end()) {
    return cannot_add(file.path(), ErrorCode::kLimitReached,
                      "it has " + std::to_string(kMaxTargets) + " already. Remove one first.");
  }
  const auto slot = static_cast<uint32_t>(free - header.targets.begin());
  header.targets[slot] = id;
  header.suspicion_causes[slot] = causes;
  Status status = impl().begin_target(slot, pending, causes);
  if (status.is_ok()) {
    failpoint("bitmap.add_target");
    status = impl().write_header(header);
    failpoint("bitmap.added_target");
  }
  if (status.is_ok()) return slot;
  impl().slots[slot].reset();
  (void)file.release_slot(slot);
  return status;
}

Status DirtyBitmap::remove_target(uint32_t slot) {
  if (Status status = impl().check_usable(slot); !status.is_ok()) return status;
  BitmapHeader header = impl().file.header();
  header.targets[slot] = Uuid{};
  // First the table, durably: a target that is listed has its bits.
  if (Status status = impl().write_header(header); !status.is_ok()) return status;
  failpoint("bitmap.remove_target");
  impl().slots[slot].reset();
  return impl().file.release_slot(slot);
}

std::optional<uint32_t> DirtyBitmap::find_target(const Uuid& id) const {
  for (const Target& target : targets()) {
    if (target.id == id) return target.slot;
  }
  return std::nullopt;
}

std::vector<DirtyBitmap::Target> DirtyBitmap::targets() const {
  std::vector<Target> targets;
  for (uint32_t slot = 0; slot < kMaxTargets; ++slot) {
    const Uuid& id = impl().file.header().targets[slot];
    if (!id.is_nil()) targets.push_back({slot, id});
  }
  return targets;
}

}  // namespace tidemark
