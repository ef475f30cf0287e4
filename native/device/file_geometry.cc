#include "device/file_geometry.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <fstream>

namespace tidemark {

namespace {

// A number from the queue directory of a block device, or of the disk that its
// partition is on; `otherwise` where there is none (network file systems, btrfs).
uint64_t queue_attribute(dev_t device, const char* name, uint64_t otherwise) {
  const std::string root =
      "/sys/dev/block/" + std::to_string(major(device)) + ":" + std::to_string(minor(device));
  for (const char* queue : {"/queue/", "/../queue/"}) {
    std::ifstream file(root + queue + name);
    uint64_t value = 0;
    if (file >> value) return value;
  }
  return otherwise;
}

Status probe_block_device(int fd, const struct stat& status, const std::string& path,
                          FileGeometry& geometry) {
  int logical = 0;
  unsigned physical = 0;
  if (::ioctl(fd, BLKGETSIZE64, &geometry.size_bytes) != 0 ||
      ::ioctl(fd, BLKSSZGET, &logical) != 0) {
    return Status::from_errno("Cannot read the size of block device " + path, errno);
  }
  if (::ioctl(fd, BLKPBSZGET, &physical) != 0) physical = 0;
  geometry.is_block_device = true;
  geometry.logical_block_bytes = static_cast<uint32_t>(logical);
  geometry.memory_alignment_bytes = static_cast<uint32_t>(logical);
  geometry.preferred_block_bytes = std::bit_ceil(std::clamp(physical, 4096U, 65536U));
  geometry.fast_zero = queue_attribute(status.st_rdev, "write_zeroes_max_bytes", 0) > 0;
  geometry.rotational = queue_attribute(status.st_rdev, "rotational", 0) != 0;
  return Status::ok();
}

// For kernels and file systems that do not say: does a sector-sized read work?
uint32_t tried_direct_block_bytes(int fd) {
  constexpr size_t kPageBytes = 4096;
  alignas(kPageBytes) std::byte page[kPageBytes];
  return ::pread(fd, page, 512, 0) < 0 ? kPageBytes : 512;
}

Status probe_direct(int fd, const std::string& path, FileGeometry& geometry) {
  uint32_t offset_alignment = 0;
  uint32_t memory_alignment = 0;
#ifdef STATX_DIOALIGN
  struct statx extended {};
  if (::statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &extended) == 0 &&
      (extended.stx_mask & STATX_DIOALIGN) != 0) {
    if (extended.stx_dio_offset_align == 0) {
      return {ErrorCode::kUnsupported, "Cannot open " + path +
                                           " directly: because its file system buffers this file. "
                                           "Open it without direct I/O."};
    }
    offset_alignment = extended.stx_dio_offset_align;
    memory_alignment = extended.stx_dio_mem_align;
  }
#endif
  if (offset_alignment == 0) offset_alignment = memory_alignment = tried_direct_block_bytes(fd);
  geometry.logical_block_bytes = std::max(offset_alignment, 512U);
  geometry.memory_alignment_bytes = std::max(memory_alignment, 1U);
  return Status::ok();
}

Status check_direct_size(const std::string& path, const FileGeometry& geometry) {
  if (geometry.size_bytes % geometry.logical_block_bytes == 0) return Status::ok();
  return {ErrorCode::kInvalidArgument, "Cannot open " + path + " directly: because its size of " +
                                           std::to_string(geometry.size_bytes) +
                                           " bytes is no multiple of " +
                                           std::to_string(geometry.logical_block_bytes) +
                                           ". Open it without direct I/O, or extend it."};
}

}  // namespace

Result<FileGeometry> probe_file_geometry(int fd, bool direct, const std::string& path) {
  FileGeometry geometry;
  struct stat status {};
  if (::fstat(fd, &status) != 0) return Status::from_errno("Cannot examine " + path, errno);
  if (S_ISBLK(status.st_mode)) {
    if (Status probed = probe_block_device(fd, status, path, geometry); !probed.is_ok()) {
      return probed;
    }
  } else if (S_ISREG(status.st_mode)) {
    geometry.size_bytes = static_cast<uint64_t>(status.st_size);
    const auto preferred = static_cast<uint32_t>(std::clamp<long>(status.st_blksize, 4096, 65536));
    geometry.preferred_block_bytes = std::bit_floor(preferred);
    geometry.rotational = queue_attribute(status.st_dev, "rotational", 0) != 0;
    if (direct) {
      if (Status probed = probe_direct(fd, path, geometry); !probed.is_ok()) return probed;
    }
  } else {
    return Status{ErrorCode::kUnsupported, "Cannot open " + path +
                                               ": because it is neither a regular file nor a block "
                                               "device. Name one of these."};
  }
  if (direct) {
    if (Status fits = check_direct_size(path, geometry); !fits.is_ok()) return fits;
  }
  return geometry;
}

}  // namespace tidemark
