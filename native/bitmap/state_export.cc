#include "bitmap/state_export.h"

#include <algorithm>

#include "bitmap/bitmap_file.h"
#include "common/failpoint.h"

namespace tidemark {

namespace {

Status refuse(const char* verb, const std::string& path, ErrorCode code,
              const std::string& reason) {
  return {code, std::string("Cannot ") + verb + " the state of " + path + ": because " + reason};
}

// Those in use, but for the header's own: of a free slot nobody may read anything.
Status for_each_used_page(const BitmapFile& file,
                          const std::function<Status(uint64_t, StateFile::Page)>& take) {
  const BitmapLayout& layout = file.layout();
  const auto range = [&](uint64_t from_bytes, uint64_t end_bytes) {
    for (uint64_t at = from_bytes; at < end_bytes; at += kBitmapPageBytes) {
      const StateFile::Page page(file.bytes() + at, kBitmapPageBytes);
      const bool is_zero =
          std::all_of(page.begin(), page.end(), [](std::byte b) { return b == std::byte{0}; });
      if (is_zero) continue;
      if (Status status = take(at / kBitmapPageBytes, page); !status.is_ok()) return status;
    }
    return Status::ok();
  };
  Status status = range(kBitmapPageBytes, layout.slot_offset_bytes(0));
  for (uint32_t slot = 0; slot < kMaxTargets && status.is_ok(); ++slot) {
    if (file.header().targets[slot].is_nil()) continue;
    const uint64_t from_bytes = layout.slot_offset_bytes(slot);
    status = range(from_bytes, from_bytes + layout.slot_bytes());
  }
  return status;
}

// A crash came between the mark in the bitmap and the seal, or the answer was lost.
Result<StateFile::Content> finish_export(const BitmapFile& file, const std::string& state_path) {
  const std::string advice = " Import that one, or take it back.";
  Result<StateFile> state = StateFile::open(state_path);
  if (!state.is_ok() || state.value().content().id != file.header().hand_over) {
    return refuse(
        "export", file.path(), ErrorCode::kHandedOver,
        "it was handed over with state " + file.header().hand_over.to_string() + "." + advice);
  }
  if (state.value().claim() != StateClaim::kNone) {
    return refuse("export", file.path(), ErrorCode::kHandedOver,
                  state_path + " was imported already." + advice);
  }
  if (!state.value().is_sealed()) {
    if (Status status = state.value().seal(); !status.is_ok()) return status;
  }
  return state.value().content();
}

Status check_exportable(const BitmapFile& file, const Uuid& disk) {
  const BitmapHeader& header = file.header();
  if (!disk.is_nil() && header.disk != disk) {
    return refuse("export", file.path(), ErrorCode::kForeign,
                  "it belongs to disk " + header.disk.to_string() + ", not to " + disk.to_string() +
                      ". Give the bitmap of this disk.");
  }
  if (header.clean || header.handed_over) return Status::ok();
  return refuse("export", file.path(), ErrorCode::kInvalidArgument,
                "it was not closed cleanly. Open the disk, close it, and export then.");
}

}  // namespace

Result<StateFile::Content> export_state(const std::string& bitmap_path, const Uuid& disk,
                                        const std::string& state_path, const std::string& annex,
                                        BitmapStorage& storage) {
  Result<BitmapFile> opened = BitmapFile::open(storage, bitmap_path);
  if (!opened.is_ok()) return opened.status();
  BitmapFile& file = opened.value();
  if (Status status = check_exportable(file, disk); !status.is_ok()) return status;
  BitmapHeader header = file.header();
  if (header.handed_over) return finish_export(file, state_path);
  header.hand_over = Uuid::random();
  ++header.owner_epoch;
  const StateFile::Content content{header.hand_over, header.owner_epoch,
                                   static_cast<uint32_t>(file.live_index()), header, annex};
  Result<StateFile> state = StateFile::write(
      state_path, content, [&](const auto& take) { return for_each_used_page(file, take); });
  if (!state.is_ok()) return state.status();
  failpoint("state.written");
  header.handed_over = true;
  if (Status status = file.write_header(header); !status.is_ok()) return status;
  failpoint("state.given");
  if (Status status = state.value().seal(); !status.is_ok()) return status;
  failpoint("state.sealed");
  return content;
}

namespace {

// Open, locked, and handed over.
Result<BitmapFile> open_given(const std::string& bitmap_path, BitmapStorage& storage) {
  Result<BitmapFile> opened = BitmapFile::open(storage, bitmap_path);
  if (!opened.is_ok() || opened.value().header().handed_over) return opened;
  return refuse("take back", bitmap_path, ErrorCode::kInvalidArgument,
                "it was not handed over. Open the disk.");
}

Status own_again(BitmapFile& file, SuspicionCauses causes) {
  BitmapHeader header = file.header();
  header.handed_over = false;
  header.hand_over = Uuid::random();
  ++header.owner_epoch;
  for (uint32_t slot = 0; slot < kMaxTargets; ++slot) {
    if (header.targets[slot].is_nil()) continue;
    header.suspicion_causes[slot] =
        static_cast<SuspicionCauses>(header.suspicion_causes[slot] | causes);
  }
  return file.write_header(header);
}

}  // namespace

Status take_back_state(const std::string& bitmap_path, const std::string& state_path,
                       BitmapStorage& storage) {
  Result<BitmapFile> opened = open_given(bitmap_path, storage);
  if (!opened.is_ok()) return opened.status();
  BitmapFile& file = opened.value();
  Result<StateFile> state = StateFile::open(state_path);
  if (!state.is_ok()) return state.status();
  if (state.value().content().id != file.header().hand_over) {
    return refuse("take back", bitmap_path, ErrorCode::kForeign,
                  state_path + " is another hand-over's. Give the state " +
                      file.header().hand_over.to_string() + ".");
  }
  if (state.value().claim() == StateClaim::kImported) {
    return refuse("take back", bitmap_path, ErrorCode::kHandedOver,
                  state_path + " was imported. Export it from its new holder.");
  }
  Status status = state.value().set_claim(StateClaim::kTakenBack, file.header().hand_over);
  if (!status.is_ok()) return status;
  failpoint("state.taken_back");
  return own_again(file, 0);
}

Status take_back_by_force(const std::string& bitmap_path, BitmapStorage& storage) {
  Result<BitmapFile> opened = open_given(bitmap_path, storage);
  if (!opened.is_ok()) return opened.status();
  BitmapFile& file = opened.value();
  file.mark_all_suspect();
  // Before the header says that the disk is ours again.
  if (Status status = file.sync_everything(); !status.is_ok()) return status;
  failpoint("state.taken_back");
  return own_again(file, static_cast<SuspicionCauses>(SuspicionCause::kTakenByForce));
}

}  // namespace tidemark
