// Taking a bitmap file from a holder that does not let go of it: one that was stopped, or
// that is fenced and does not know it yet (device/owner_record.h).
//
// Its lock and its mapping cannot be taken away, so the file is left to it: what the maps
// say is copied to a new file, which takes the name. For whoever opens that, the holder
// had an unclean end: of this boot nothing is lost, of another machine's what its intent
// log has marked is suspect.
#pragma once

#include <string>

#include "bitmap/bitmap_storage.h"
#include "common/status.h"

namespace tidemark {

// Only when the holder writes to the disk no more. Its maps may still be moved about: what
// is set in any of two readings that hold the same bits is set here. kTimedOut: they never
// did. A file that nobody holds is left as it is; kHandedOver, kNotFound, kCorrupt ...
Status take_bitmap_over(const std::string& path, BitmapStorage& storage = file_bitmap_storage());

}  // namespace tidemark
