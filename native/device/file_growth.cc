#include "device/file_growth.h"

#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace tidemark {

namespace {

Status refuse(const FileGrowth& growth, const std::string& reason) {
  return {ErrorCode::kInvalidArgument, "Cannot resize " + growth.path + " to " +
                                           std::to_string(growth.wanted_bytes) +
                                           " bytes: because " + reason};
}

Status check(const FileGrowth& growth) {
  const std::string has = "it has " + std::to_string(growth.present_bytes);
  if (growth.read_only) {
    return {ErrorCode::kReadOnly,
            "Cannot resize " + growth.path + ": because it is open for reading only."};
  }
  if (growth.wanted_bytes < growth.present_bytes) {
    return refuse(growth, has + " bytes, and a disk only grows.");
  }
  if (growth.wanted_bytes > INT64_MAX || growth.wanted_bytes % growth.block_bytes != 0) {
    return refuse(growth, "it must be a multiple of " + std::to_string(growth.block_bytes) +
                              " bytes below 2^63.");
  }
  return Status::ok();
}

Status check_block_device(const FileGrowth& growth) {
  uint64_t has_bytes = 0;
  if (::ioctl(growth.fd, BLKGETSIZE64, &has_bytes) != 0) {
    return Status::from_errno("Cannot read the size of block device " + growth.path, errno);
  }
  if (growth.wanted_bytes <= has_bytes) return Status::ok();
  return refuse(growth, "the block device has " + std::to_string(has_bytes) +
                            ". Grow it first, as with lvextend.");
}

}  // namespace

Status grow_file(const FileGrowth& growth) {
  if (Status status = check(growth); !status.is_ok()) return status;
  if (growth.wanted_bytes == growth.present_bytes) return Status::ok();
  if (growth.is_block_device) return check_block_device(growth);
  const std::string what = "Cannot resize " + growth.path;
  struct stat found {};
  if (::fstat(growth.fd, &found) != 0) return Status::from_errno(what, errno);
  if (static_cast<uint64_t>(found.st_size) < growth.wanted_bytes &&
      ::ftruncate(growth.fd, static_cast<off_t>(growth.wanted_bytes)) != 0) {
    return Status::from_errno(what, errno);
  }
  return ::fsync(growth.fd) == 0 ? Status::ok() : Status::from_errno(what, errno);
}

}  // namespace tidemark
