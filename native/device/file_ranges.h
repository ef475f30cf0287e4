// Ranges without data: trim, write-zeroes and extents of an open file or block
// device. The first two block and belong on an engine's thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "device/block_device.h"

namespace tidemark {

struct FileRange {
  int fd = -1;
  bool is_block_device = false;
  uint32_t logical_block_bytes = 512;
  uint64_t offset_bytes = 0;
  uint64_t length_bytes = 0;
};

// 0 or an errno. A file's range reads as zeroes afterwards, or the answer is
// ENOTSUP; a block device's may read as anything, and where it cannot discard,
// nothing happens.
int trim_file_range(const FileRange& range) noexcept;

// 0 or an errno; `io_flags` are kIoNoHole and kIoFastZero.
int zero_file_range(const FileRange& range, uint32_t io_flags) noexcept;

// Has the kernel read the range's beginning into the page cache. A hint: whatever
// goes wrong changes nothing.
void cache_file_range(const FileRange& range) noexcept;

// A regular file whose file system answers SEEK_DATA and SEEK_HOLE from memory.
// Others may ask their server, or write what is dirty first.
bool has_cheap_allocation(int fd) noexcept;

// base:allocation of a regular file, by SEEK_DATA and SEEK_HOLE.
void query_file_allocation(int fd, uint64_t offset_bytes, uint64_t length_bytes, size_t max_extents,
                           std::vector<DeviceExtent>& extents);

}  // namespace tidemark
