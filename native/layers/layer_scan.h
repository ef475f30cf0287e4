// Looking for rot: the data of a layer, or of a plain file, read again from the
// storage and held against checksums.
//
// What the page cache holds says nothing of the storage, so each piece is dropped
// from it before it is read. Blocks; for pool threads.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/status.h"
#include "layers/layer.h"

namespace tidemark {

struct DiskRange {
  uint64_t offset_bytes = 0;
  uint64_t length_bytes = 0;
};

struct LayerScan {
  uint64_t next_bytes = 0;  // disk offset to go on from; the disk's size at the end
  uint64_t read_bytes = 0;
  std::vector<DiskRange> damaged;  // sorted; neighbours joined
};

// The granules of extents from disk offset `from_bytes` on, until about
// `limit_bytes` were read. What cannot be read is damaged.
LayerScan scan_layer(const Layer& layer, uint64_t from_bytes, uint64_t limit_bytes);

// The checksums that the layer keeps for `length_bytes` from `offset_bytes` on, which
// lie in one extent with data and begin at a granule: kInvalidArgument.
Result<std::vector<uint32_t>> stored_checksums(const Layer& layer, uint64_t offset_bytes,
                                               uint64_t length_bytes);

// One CRC-32C for each `block_bytes` of the range; past the file's end as zeroes.
Result<std::vector<uint32_t>> checksum_file(const std::string& path, uint64_t offset_bytes,
                                            uint64_t length_bytes, uint32_t block_bytes);

}  // namespace tidemark
