#include "device/backing_facts.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <fstream>

namespace tidemark {

namespace {

// The first that the kernel has: a device-mapper volume's own id, a disk's world wide
// name, a loop device's file. A number or a name under /dev says nothing.
std::string block_device_identity(dev_t device) {
  const std::string directory =
      "/sys/dev/block/" + std::to_string(major(device)) + ":" + std::to_string(minor(device)) + "/";
  for (const char* name : {"dm/uuid", "wwid", "device/wwid", "md/uuid", "loop/backing_file"}) {
    std::ifstream file(directory + name);
    std::string text;
    if (std::getline(file, text) && !text.empty()) return std::string(name) + "=" + text;
  }
  return {};
}

// The kernel's counts for a disk, a partition or a volume: sectors written, and
// discarded. One more, so that an unused one has a number too.
uint64_t arrived_sector_count(dev_t device) {
  std::ifstream file("/sys/dev/block/" + std::to_string(major(device)) + ":" +
                     std::to_string(minor(device)) + "/stat");
  uint64_t counts[14] = {};
  for (uint64_t& count : counts) file >> count;
  return file ? 1 + counts[6] + counts[13] : 0;
}

// Where the time of modification changes with the write itself. A network file system
// hears of it later, and from another clock.
bool is_local_file_system(int fd) noexcept {
  constexpr uint32_t kLocal[] = {EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, BTRFS_SUPER_MAGIC,
                                 F2FS_SUPER_MAGIC, TMPFS_MAGIC,     OVERLAYFS_SUPER_MAGIC};
  struct statfs found {};
  if (::fstatfs(fd, &found) != 0) return false;
  const auto type = static_cast<uint32_t>(found.f_type);
  return std::find(std::begin(kLocal), std::end(kLocal), type) != std::end(kLocal);
}

}  // namespace

Result<BackingFacts> probe_backing_facts(int fd) {
  struct statx found {};
  if (::statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, &found) != 0) {
    return Status::from_errno("Cannot look at the backing", errno);
  }
  BackingFacts facts;
  if (S_ISBLK(found.stx_mode)) {
    // Its node's times are those of the name under /dev, not of the content.
    const dev_t device = makedev(found.stx_rdev_major, found.stx_rdev_minor);
    facts.identity = block_device_identity(device);
    facts.write_stamp = arrived_sector_count(device);
    facts.counts_what_arrived = true;
    return facts;
  }
  facts.identity = "inode=" + std::to_string(found.stx_ino);
  if ((found.stx_mask & STATX_BTIME) != 0) {
    facts.identity += " born=" + std::to_string(found.stx_btime.tv_sec) + "." +
                      std::to_string(found.stx_btime.tv_nsec);
  }
  facts.modified_ns = static_cast<int64_t>(found.stx_mtime.tv_sec) * 1'000'000'000 +
                      static_cast<int64_t>(found.stx_mtime.tv_nsec);
  if (is_local_file_system(fd)) facts.write_stamp = static_cast<uint64_t>(facts.modified_ns);
  return facts;
}

}  // namespace tidemark
