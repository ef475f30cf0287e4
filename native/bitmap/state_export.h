// Giving a disk's tracking state away, and taking it back.
//
// A disk has one owner: whose bitmap file is not "handed over". Exporting
//   1  writes the state, unsealed: nobody can import it
//   2  marks the bitmap as handed over, durably: nobody can open it
//   3  seals the state: it can be imported, once
// so that a crash between any two leaves one owner or none, never two. After 2 the same
// call goes on; taking back is the way out. The epoch in bitmap and state rises with
// each step from one owner to the next, so that an older state is known as older.
#pragma once

#include <string>

#include "bitmap/bitmap_storage.h"
#include "bitmap/state_file.h"
#include "common/status.h"
#include "common/uuid.h"

namespace tidemark {

// Of a disk that nobody has open, and whose bitmap was closed cleanly. The nil UUID
// stands for whichever disk the bitmap is of. Errors as DirtyBitmap::open(), and
// kInvalidArgument (not clean), kHandedOver (to another state), kAlreadyExists (a file).
// `annex`: at most StateFile::kMaxAnnexBytes, for who imports it.
Result<StateFile::Content> export_state(const std::string& bitmap_path, const Uuid& disk,
                                        const std::string& state_path,
                                        const std::string& annex = {},
                                        BitmapStorage& storage = file_bitmap_storage());

// What export_state() gave, if nobody imported it: the state cannot be imported any more,
// and the bitmap may be opened again. kForeign: another state; kHandedOver: imported.
Status take_back_state(const std::string& bitmap_path, const std::string& state_path,
                       BitmapStorage& storage = file_bitmap_storage());
// Without the state: somebody may have written to the disk, so all of it is suspect.
Status take_back_by_force(const std::string& bitmap_path,
                          BitmapStorage& storage = file_bitmap_storage());

}  // namespace tidemark
