#include "tracking/live_reader.h"

#include "device/aligned_read.h"

namespace tidemark {

Status LiveReader::read_inside(uint64_t offset_bytes, std::span<std::byte> into) {
  const DirtyBitmap& bitmap = device().bitmap();
  const uint64_t block_bytes = granularity_bytes();
  const uint64_t end_bytes = offset_bytes + into.size();
  for (uint64_t block = offset_bytes / block_bytes; block * block_bytes < end_bytes; ++block) {
    if (bitmap.is_dirty(MapId::in_flight(slot()), block)) continue;
    return {ErrorCode::kInvalidArgument,
            "Cannot read the capture: because a block is not in it. Read inside its extents."};
  }
  return read_aligned(device().backing(), offset_bytes, into);
}

}  // namespace tidemark
