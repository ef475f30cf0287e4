#include "device/file_ranges.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "device/io_engine.h"

namespace tidemark {

namespace {

constexpr uint64_t kZeroesBytes = 256 * 1024;
constexpr uint64_t kCachePieceBytes = 128 * 1024;
constexpr uint64_t kCacheLimitBytes = 64 * 1024 * 1024;  // of one request
constexpr int kPunch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
constexpr int kZeroRange = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;

// Only read; aligned for direct I/O.
alignas(4096) std::byte zeroes[kZeroesBytes];

int allocate(const FileRange& range, int mode) noexcept {
  const auto offset = static_cast<off_t>(range.offset_bytes);
  const auto length = static_cast<off_t>(range.length_bytes);
  while (::fallocate(range.fd, mode, offset, length) != 0) {
    if (errno != EINTR) return errno == ENOSYS ? ENOTSUP : errno;
  }
  return 0;
}

int write_zeroes(const FileRange& range) noexcept {
  const uint64_t end_bytes = range.offset_bytes + range.length_bytes;
  for (uint64_t offset = range.offset_bytes; offset < end_bytes; offset += kZeroesBytes) {
    IoTask task;
    task.kind = IoTask::Kind::kWrite;
    task.fd = range.fd;
    task.offset_bytes = offset;
    task.remaining_bytes = std::min(kZeroesBytes, end_bytes - offset);
    task.data = zeroes;
    if (const int error = run_io_task(task); error != 0) return error;
  }
  return 0;
}

int zero_whole_range(const FileRange& range, uint32_t io_flags) noexcept {
  if ((io_flags & kIoNoHole) == 0) {
    // On a block device too: zeroes by the device itself, or not at all.
    if (const int error = allocate(range, kPunch); error != ENOTSUP) return error;
  }
  const bool must_be_fast = (io_flags & kIoFastZero) != 0;
  // A block device would fall back to writing, inside the kernel.
  if (must_be_fast && range.is_block_device) return ENOTSUP;
  if (const int error = allocate(range, kZeroRange); error != ENOTSUP) return error;
  return must_be_fast ? ENOTSUP : write_zeroes(range);
}

// The whole logical blocks inside the range.
FileRange whole_blocks(const FileRange& range) noexcept {
  const uint64_t step = range.logical_block_bytes;
  const uint64_t begin = (range.offset_bytes + step - 1) / step * step;
  const uint64_t end = (range.offset_bytes + range.length_bytes) / step * step;
  FileRange inner = range;
  inner.offset_bytes = begin;
  inner.length_bytes = end > begin ? end - begin : 0;
  return inner;
}

int zero_block_device_range(const FileRange& range, uint32_t io_flags) noexcept {
  const FileRange inner = whole_blocks(range);
  if (inner.length_bytes == 0) {
    return (io_flags & kIoFastZero) != 0 ? ENOTSUP : write_zeroes(range);
  }
  if (const int error = zero_whole_range(inner, io_flags); error != 0) return error;
  FileRange head = range;
  head.length_bytes = inner.offset_bytes - range.offset_bytes;
  FileRange tail = range;
  tail.offset_bytes = inner.offset_bytes + inner.length_bytes;
  tail.length_bytes = range.offset_bytes + range.length_bytes - tail.offset_bytes;
  const int error = write_zeroes(head);
  return error != 0 ? error : write_zeroes(tail);
}

int discard_block_device_range(const FileRange& range) noexcept {
  const FileRange inner = whole_blocks(range);
  if (inner.length_bytes == 0) return 0;
  uint64_t bounds[2] = {inner.offset_bytes, inner.length_bytes};
  while (::ioctl(range.fd, BLKDISCARD, bounds) != 0) {
    if (errno != EINTR) return errno == EOPNOTSUPP || errno == ENOTTY ? 0 : errno;
  }
  return 0;
}

// Where the next data (or hole) from `offset_bytes` on begins, at most `end_bytes`.
uint64_t next_boundary(int fd, uint64_t offset_bytes, uint64_t end_bytes, int whence) noexcept {
  const off_t found = ::lseek(fd, static_cast<off_t>(offset_bytes), whence);
  if (found >= 0) return std::clamp(static_cast<uint64_t>(found), offset_bytes, end_bytes);
  // ENXIO: no data up to the end. Any other trouble: "all data" is true enough.
  if (whence == SEEK_DATA) return errno == ENXIO ? end_bytes : offset_bytes;
  return end_bytes;
}

}  // namespace

int trim_file_range(const FileRange& range) noexcept {
  return range.is_block_device ? discard_block_device_range(range) : allocate(range, kPunch);
}

int zero_file_range(const FileRange& range, uint32_t io_flags) noexcept {
  return range.is_block_device ? zero_block_device_range(range, io_flags)
                               : zero_whole_range(range, io_flags);
}

// A call reads no more than the device's read-ahead window, whatever it is asked.
void cache_file_range(const FileRange& range) noexcept {
  const uint64_t length_bytes = std::min(range.length_bytes, kCacheLimitBytes);
  for (uint64_t done = 0; done < length_bytes; done += kCachePieceBytes) {
    const uint64_t piece = std::min(kCachePieceBytes, length_bytes - done);
    if (::posix_fadvise(range.fd, static_cast<off_t>(range.offset_bytes + done),
                        static_cast<off_t>(piece), POSIX_FADV_WILLNEED) != 0) {
      return;
    }
  }
}

bool has_cheap_allocation(int fd) noexcept {
  struct stat status {};
  struct statfs filesystem {};
  if (::fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) return false;
  if (::fstatfs(fd, &filesystem) != 0) return false;
  const auto type = static_cast<uint64_t>(filesystem.f_type);
  return type == EXT4_SUPER_MAGIC || type == XFS_SUPER_MAGIC || type == TMPFS_MAGIC;
}

void query_file_allocation(int fd, uint64_t offset_bytes, uint64_t length_bytes, size_t max_extents,
                           std::vector<DeviceExtent>& extents) {
  const uint64_t end_bytes = offset_bytes + length_bytes;
  for (size_t count = 0; count < max_extents && offset_bytes < end_bytes; ++count) {
    uint64_t next = next_boundary(fd, offset_bytes, end_bytes, SEEK_DATA);
    uint32_t flags = kExtentHole | kExtentZero;
    if (next == offset_bytes) {
      next = next_boundary(fd, offset_bytes, end_bytes, SEEK_HOLE);
      flags = 0;
      if (next == offset_bytes) next = end_bytes;  // punched between the two questions
    }
    extents.push_back({next - offset_bytes, flags});
    offset_bytes = next;
  }
}

}  // namespace tidemark
