// Growing an open file, or taking note that a block device has grown. Blocks.
#pragma once

#include <cstdint>
#include <string>

#include "common/status.h"

namespace tidemark {

struct FileGrowth {
  int fd = -1;
  bool is_block_device = false;
  bool read_only = false;
  uint32_t block_bytes = 1;  // the new size is a multiple of it
  uint64_t present_bytes = 0;
  uint64_t wanted_bytes = 0;
  const std::string& path;
};

// Durable when it returns. A file that is larger already is left as it is; a
// block device is grown by its administrator, and may be asked for what it has.
Status grow_file(const FileGrowth& growth);

}  // namespace tidemark
