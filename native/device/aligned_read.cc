#include "device/aligned_read.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "device/sync_io.h"

namespace tidemark {

Status read_aligned(BlockDevice& device, uint64_t offset_bytes, std::span<std::byte> into) {
  const uint64_t unit = device.traits().minimum_block_bytes;
  if (offset_bytes % unit == 0 && into.size() % unit == 0) {
    return read_sync(device, offset_bytes, into);
  }
  const uint64_t from = offset_bytes / unit * unit;
  const uint64_t end = (offset_bytes + into.size() + unit - 1) / unit * unit;
  std::vector<std::byte> whole(std::min(end, device.size_bytes()) - from);
  if (Status status = read_sync(device, from, whole); !status.is_ok()) return status;
  std::memcpy(into.data(), whole.data() + (offset_bytes - from), into.size());
  return Status::ok();
}

}  // namespace tidemark
