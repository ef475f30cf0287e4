// Creating, opening, recovering and closing a bitmap.
#include "bitmap/dirty_bitmap_impl.h"
#include "common/failpoint.h"

namespace tidemark {

namespace {

Status invalid(const std::string& path, const std::string& reason) {
  return {ErrorCode::kInvalidArgument, "Cannot create the bitmap " + path + ": because " + reason};
}

Status check_belongs(const BitmapFile& file, const Uuid& disk, uint64_t disk_size_bytes) {
  const BitmapHeader& header = file.header();
  const std::string subject = "Cannot open the bitmap " + file.path() + ": because it ";
  const std::string advice = " Give the bitmap of this disk, or create a new one.";
  if (!disk.is_nil() && header.disk != disk) {
    return {ErrorCode::kForeign, subject + "belongs to disk " + header.disk.to_string() +
                                     ", not to " + disk.to_string() + "." + advice};
  }
  if (header.handed_over) {
    return {ErrorCode::kHandedOver,
            subject + "was handed over with state " + header.hand_over.to_string() +
                ". Use the disk where that was imported, or take the state back."};
  }
  if (header.disk_size_bytes > disk_size_bytes || disk_size_bytes > INT64_MAX) {
    return {ErrorCode::kForeign, subject + "is for a disk of " +
                                     std::to_string(header.disk_size_bytes) + " bytes, and this " +
                                     "one has " + std::to_string(disk_size_bytes) +
                                     ". Was it cut? " + advice.substr(1)};
  }
  return Status::ok();
}

}  // namespace

DirtyBitmap::Impl::Impl(BitmapFile bitmap_file, bool was_clean, Durability durability)
    : file(std::move(bitmap_file)),
      intents(file.intent_storage(), known_page(file), durability,
              file.intent_page().status().message()),
      disk_size_bytes(file.header().disk_size_bytes),
      granularity_shift(static_cast<uint32_t>(std::countr_zero(file.header().granularity_bytes))),
      opened_clean(was_clean),
      live_index(static_cast<uint32_t>(file.live_index())),
      live_maps{file.map_at(file.layout().live_offset_bytes(0)),
                file.map_at(file.layout().live_offset_bytes(1))} {}

// Reads every map in use. Holes are not skipped by asking the file system for
// them: one that reports a hole where data waits for write-back loses bits.
Status DirtyBitmap::Impl::load() {
  bool holds = live_maps[0].load_summary() && live_maps[1].load_summary();
  for (uint32_t slot = 0; slot < kMaxTargets; ++slot) {
    if (file.header().targets[slot].is_nil()) continue;
    load_target(slot);
    TargetMaps& maps = *slots[slot];
    for (BlockMap* map : {&maps.pending, &maps.in_flight, &maps.staged, &maps.suspect}) {
      holds = map->load_summary() && holds;
    }
  }
  if (holds) return Status::ok();
  return {ErrorCode::kCorrupt,
          "Cannot open the bitmap " + file.path() +
              ": because a map holds bits past the last block. Move it away, and compare the "
              "whole disk with its replicas."};
}

// Destinations first, as in every move.
Status DirtyBitmap::Impl::recover() {
  const std::vector<BlockMap*> destinations = merge_destinations();
  for (BlockMap* destination : destinations) {
    WordRange touched;
    for (const BlockMap& live_map : live_maps) {
      if (&live_map != destination) touched.include(live_map.merge_into(*destination));
    }
    for (const auto& maps : slots) {
      if (maps && destination == &maps->pending) {
        touched.include(maps->in_flight.merge_into(maps->pending));
      }
    }
    if (Status status = sync(*destination, touched); !status.is_ok()) return status;
  }
  failpoint("bitmap.recover");
  for (const auto& maps : slots) {
    if (maps) maps->in_flight.clear_all();
  }
  for (BlockMap& live_map : live_maps) {
    if (&live_map != destinations.front()) live_map.clear_all();
  }
  return Status::ok();
}

// Whether the open moves or believes bits that a sync of an earlier holder may have lost.
bool DirtyBitmap::Impl::acts_on_what_was_left() noexcept {
  return !opened_clean || file.header().boot != file.storage().boot() ||
         known_page(file).is_distrusted() || !closed().is_empty();
}

Status DirtyBitmap::Impl::begin() {
  BitmapHeader header = file.header();
  // What a killed process left may be in the page cache alone. Before anything follows from
  // it: else power loss brings back a target that was being removed, without its live marks.
  if (Status status = file.sync_everything(); !status.is_ok()) return status;
  if (opened_clean) {
    // A close between flip and merge left it: the next flip needs it empty.
    const std::vector<BlockMap*> destinations = merge_destinations();
    Status status = move(closed(), destinations, "bitmap.merge");
    if (!status.is_ok()) return status;
  } else if (Status status = recover(); !status.is_ok()) {
    return status;
  }
  if (Status status = intents.begin(); !status.is_ok()) return status;
  header.clean = false;
  header.boot = file.storage().boot();
  file.store_heartbeat();
  return file.write_header(header);
}

Result<std::unique_ptr<DirtyBitmap>> DirtyBitmap::create(const std::string& path,
                                                         const Parameters& parameters,
                                                         BitmapStorage& storage) {
  BitmapHeader header;
  header.disk = parameters.disk;
  header.disk_size_bytes = parameters.disk_size_bytes;
  header.granularity_bytes = parameters.granularity_bytes != 0
                                 ? parameters.granularity_bytes
                                 : default_granularity_bytes(parameters.disk_size_bytes);
  header.boot = storage.boot();
  if (header.disk.is_nil()) return invalid(path, "the disk's UUID is nil.");
  if (!BitmapLayout::is_valid(header.disk_size_bytes, header.granularity_bytes)) {
    return invalid(path, "a disk of " + std::to_string(header.disk_size_bytes) +
                             " bytes cannot have blocks of " +
                             std::to_string(header.granularity_bytes) +
                             ". Take a power of two from 4096 for which a map has at most " +
                             std::to_string(kMaxMapBytes) + " bytes.");
  }
  Result<BitmapFile> file = BitmapFile::create(storage, path, header);
  if (!file.is_ok()) return file.status();
  file.value().store_heartbeat();
  auto impl = std::make_unique<Impl>(std::move(file).value(), true, parameters.durability);
  return std::unique_ptr<DirtyBitmap>(new DirtyBitmap(std::move(impl)));
}

Result<std::unique_ptr<DirtyBitmap>> DirtyBitmap::open(const std::string& path, const Uuid& disk,
                                                       uint64_t disk_size_bytes,
                                                       BitmapStorage& storage,
                                                       Durability durability) {
  Result<BitmapFile> file = BitmapFile::open(storage, path);
  if (!file.is_ok()) return file.status();
  if (Status status = check_belongs(file.value(), disk, disk_size_bytes); !status.is_ok()) {
    return status;
  }
  const bool was_clean = file.value().header().clean;
  auto impl = std::make_unique<Impl>(std::move(file).value(), was_clean, durability);
  if (Status status = impl->load(); !status.is_ok()) return status;
  if (impl->acts_on_what_was_left()) impl->file.renew();
  std::unique_ptr<DirtyBitmap> bitmap(new DirtyBitmap(std::move(impl)));
  // Durable before the boot's id is: from then on the page speaks of this boot.
  if (Status status = bitmap->suspect_what_was_marked(); !status.is_ok()) return status;
  failpoint("bitmap.suspected");
  if (Status status = bitmap->impl().begin(); !status.is_ok()) return status;
  if (Status status = bitmap->grow_to(disk_size_bytes); !status.is_ok()) return status;
  return bitmap;
}

Status DirtyBitmap::close() {
  BitmapFile& file = impl().file;
  if (!file.is_open()) return impl().close_status;
  give_up_growth();
  impl().intents.retire();
  file.store_heartbeat();
  Status status = file.sync_everything();
  if (status.is_ok() && (file.sync_has_failed() || impl().intents.is_in_trouble())) {
    status = {ErrorCode::kIo, "Cannot close the bitmap " + file.path() +
                                  " cleanly: because an earlier sync of it failed. The next open "
                                  "treats it as after a crash."};
  }
  failpoint("bitmap.close");
  if (status.is_ok()) {
    BitmapHeader header = file.header();
    header.clean = true;
    status = file.write_header(header);
  }
  file.close();
  impl().close_status = status;
  return status;
}

}  // namespace tidemark
