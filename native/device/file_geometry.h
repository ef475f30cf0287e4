// What an open file or block device says about itself.
#pragma once

#include <cstdint>
#include <string>

#include "common/status.h"

namespace tidemark {

struct FileGeometry {
  uint64_t size_bytes = 0;
  bool is_block_device = false;
  bool rotational = false;
  bool fast_zero = true;
  uint32_t logical_block_bytes = 512;     // of a block device, or of direct I/O on a file
  uint32_t memory_alignment_bytes = 512;  // of a buffer for direct I/O
  uint32_t preferred_block_bytes = 4096;
};

// `fd` is open with O_DIRECT when `direct`. `path` is for messages.
Result<FileGeometry> probe_file_geometry(int fd, bool direct, const std::string& path);

}  // namespace tidemark
