// Taking a disk's tracking state over that another holder has exported.
//
// The order, so that a crash at any point leaves one owner or none (bitmap/state_export.h):
//   1  the bitmap is made under a name of its own, NAME.import, with a random claimant
//   2  the state is claimed for that claimant, durably: nobody else can import it
//   3  the bitmap takes its name
// The same call again after 2 finds its claimant in NAME.import, and goes on with 3.
#pragma once

#include <string>

#include "bitmap/bitmap_storage.h"
#include "bitmap/state_file.h"
#include "bitmap/suspicion.h"
#include "common/status.h"
#include "common/uuid.h"
#include "device/block_device.h"

namespace tidemark {

struct StateImport {
  std::string state_path;
  std::string bitmap_path;
  Uuid disk;  // nil: whichever disk the state is of
};

struct ImportedState {
  SuspicionCauses causes;  // why all of the disk is suspect; 0: it is not
  StateFile::Content content;
};

// `backing` is where the disk's content is now: the same storage, or a copy of it. That
// it is another file is allowed by the import; what differs in size or in the sampled
// content is answered as causes, and all of the disk is suspect then.
//
// kTruncated (also: never sealed), kCorrupt, kVersion, kForeign (another disk, or its size),
// kHandedOver (imported or taken back), kStale (older than the bitmap that is there),
// kAlreadyExists (a bitmap that owns the disk is there), kInUse.
Result<ImportedState> import_state(const StateImport& import, BlockDevice& backing,
                                   BitmapStorage& storage = file_bitmap_storage());

}  // namespace tidemark
