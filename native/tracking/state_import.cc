#include "tracking/state_import.h"

#include <cstring>

#include "bitmap/bitmap_file.h"
#include "bitmap/state_file.h"
#include "common/failpoint.h"
#include "tracking/fingerprint.h"

namespace tidemark {

namespace {

Status refuse(const StateImport& import, ErrorCode code, const std::string& reason) {
  return {code, "Cannot import the disk state " + import.state_path + ": because " + reason};
}

std::string unfinished_path(const std::string& bitmap_path) { return bitmap_path + ".import"; }

Status check_content(const StateImport& import, const StateFile& state,
                     const BlockDevice& backing) {
  const BitmapHeader& bitmap = state.content().bitmap;
  if (!state.is_sealed()) {
    return refuse(import, ErrorCode::kTruncated,
                  "its export did not come to its end. Call the export again where the disk was.");
  }
  if (!import.disk.is_nil() && bitmap.disk != import.disk) {
    return refuse(import, ErrorCode::kForeign,
                  "it is of disk " + bitmap.disk.to_string() + ", not of " +
                      import.disk.to_string() + ". Give the state of this disk.");
  }
  if (bitmap.disk_size_bytes != backing.size_bytes()) {
    return refuse(import, ErrorCode::kForeign,
                  "it is of a disk of " + std::to_string(bitmap.disk_size_bytes) +
                      " bytes, and this one has " + std::to_string(backing.size_bytes()) +
                      ". Give the whole copy of the disk.");
  }
  if (state.claim() == StateClaim::kTakenBack) {
    return refuse(import, ErrorCode::kHandedOver, "it was taken back. Export the disk again.");
  }
  return Status::ok();
}

// What bears the bitmap's name: nothing, or what was left when the disk went away.
Status check_former(const StateImport& import, const BitmapHeader& former,
                    const StateFile::Content& content) {
  if (former.disk != content.bitmap.disk) {
    return refuse(import, ErrorCode::kForeign,
                  import.bitmap_path + " belongs to disk " + former.disk.to_string() +
                      ". Name another bitmap file.");
  }
  const std::string epochs = "epoch " + std::to_string(content.epoch) + ", and " +
                             import.bitmap_path + " is of epoch " +
                             std::to_string(former.owner_epoch);
  if (former.owner_epoch > content.epoch) {
    return refuse(import, ErrorCode::kStale,
                  "it is of " + epochs + ". Import the last export of this disk.");
  }
  if (former.owner_epoch == content.epoch) {
    return former.handed_over
               ? refuse(import, ErrorCode::kAlreadyExists,
                        "it was exported from " + import.bitmap_path + ". Take it back there.")
               : refuse(import, ErrorCode::kHandedOver,
                        "it was imported here already. Open the disk.");
  }
  if (former.handed_over) return Status::ok();
  return refuse(import, ErrorCode::kAlreadyExists,
                import.bitmap_path + " owns the disk. Export it where it is, or remove it.");
}

Result<BitmapFile> make_bitmap(const StateImport& import, const StateFile& state,
                               const BitmapHeader& header, SuspicionCauses causes,
                               BitmapStorage& storage) {
  const std::string path = unfinished_path(import.bitmap_path);
  storage.remove(path);
  Result<BitmapFile> made = BitmapFile::create(storage, path, header);
  if (!made.is_ok()) return made;
  BitmapFile& file = made.value();
  for (uint32_t slot = 0; slot < kMaxTargets; ++slot) {
    if (header.targets[slot].is_nil()) continue;
    if (Status status = file.allocate_slot(slot); !status.is_ok()) return status;
  }
  Status status = state.for_each_page([&](uint64_t index, StateFile::Page page) {
    std::memcpy(file.bytes() + index * kBitmapPageBytes, page.data(), page.size());
    return Status::ok();
  });
  if (!status.is_ok()) return status;
  file.store_live_index(state.content().live_index);
  file.store_heartbeat();
  if (causes != 0) file.mark_all_suspect();
  if (status = file.sync_everything(); !status.is_ok()) return status;
  return made;
}

// Of no known boot: what the intent log has marked counts, wherever it was marked.
BitmapHeader header_here(const StateFile::Content& content, const BackingFingerprint& fingerprint,
                         SuspicionCauses causes) {
  BitmapHeader header = content.bitmap;
  header.clean = true;
  header.handed_over = false;
  header.hand_over = Uuid::random();  // the claimant
  header.owner_epoch = content.epoch;
  header.boot = Uuid{};
  header.fingerprint = fingerprint;
  for (uint32_t slot = 0; slot < kMaxTargets; ++slot) {
    if (header.targets[slot].is_nil()) continue;
    header.suspicion_causes[slot] =
        static_cast<SuspicionCauses>(header.suspicion_causes[slot] | causes);
  }
  return header;
}

// Claimed already: by us, before a crash, or by somebody else.
Result<SuspicionCauses> finish(const StateImport& import, const StateFile& state,
                               BitmapStorage& storage) {
  Result<BitmapFile> made = BitmapFile::open(storage, unfinished_path(import.bitmap_path));
  if (!made.is_ok() || made.value().header().hand_over != state.claimant()) {
    return refuse(import, ErrorCode::kHandedOver,
                  "it was imported already. Export the disk where it is now.");
  }
  SuspicionCauses causes = 0;
  for (const SuspicionCauses each : made.value().header().suspicion_causes) causes |= each;
  if (Status status = made.value().replace(import.bitmap_path); !status.is_ok()) return status;
  return causes;
}

Result<SuspicionCauses> import_anew(const StateImport& import, StateFile& state,
                                    BlockDevice& backing, BitmapStorage& storage) {
  const SuspicionCauses causes =
      compare_moved_fingerprint(backing, state.content().bitmap.fingerprint);
  const Result<BackingFingerprint> here =
      take_fingerprint(backing, state.content().bitmap.fingerprint.sample_seed);
  if (!here.is_ok()) return here.status();
  const BitmapHeader header = header_here(state.content(), here.value(), causes);
  Result<BitmapFile> made = make_bitmap(import, state, header, causes, storage);
  if (!made.is_ok()) return made.status();
  failpoint("state.import.made");
  Status status = state.set_claim(StateClaim::kImported, header.hand_over);
  if (!status.is_ok()) return status;
  failpoint("state.import.claimed");
  if (status = made.value().replace(import.bitmap_path); !status.is_ok()) return status;
  failpoint("state.import.named");
  return causes;
}

}  // namespace

Result<ImportedState> import_state(const StateImport& import, BlockDevice& backing,
                                   BitmapStorage& storage) {
  Result<StateFile> opened = StateFile::open(import.state_path);
  if (!opened.is_ok()) return opened.status();
  StateFile& state = opened.value();
  if (Status status = check_content(import, state, backing); !status.is_ok()) return status;
  // Held, where there is one, until its name is taken.
  Result<BitmapFile> former = BitmapFile::open(storage, import.bitmap_path);
  if (former.is_ok()) {
    Status status = check_former(import, former.value().header(), state.content());
    if (!status.is_ok()) return status;
  } else if (former.status().code() != ErrorCode::kNotFound) {
    return former.status();
  }
  const Result<SuspicionCauses> causes = state.claim() == StateClaim::kNone
                                             ? import_anew(import, state, backing, storage)
                                             : finish(import, state, storage);
  if (!causes.is_ok()) return causes.status();
  return ImportedState{causes.value(), state.content()};
}

}  // namespace tidemark
