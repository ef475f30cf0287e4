// The hashes of a disk's blocks, to find out whether two disks hold the same.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "common/status.h"
#include "device/block_device.h"

namespace tidemark {

struct HashExtent {
  uint64_t offset_bytes;
  uint64_t length_bytes;
};

// The SHA-256 of every `block_bytes` of each extent, counted from the extent's begin,
// one after another; an extent's last block may be shorter. What lies past the disk's
// end hashes as zeroes, which is what it reads as once the disk has grown. Of a block that
// is known to be damaged (kCorrupt) the hash is all zeroes: no content has that one. Blocks.
Result<std::vector<std::byte>> hash_blocks(BlockDevice& device, std::span<const HashExtent> extents,
                                           uint64_t block_bytes);

}  // namespace tidemark
