#include "device/backing_facts.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

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

}  // namespace

Result<BackingFacts> probe_backing_facts(int fd) {
  struct statx found {};
  if (::statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, &found) != 0) {
    return Status::from_errno("Cannot look at the backing", errno);
  }
  BackingFacts facts;
  if (S_ISBLK(found.stx_mode)) {
    // Its node's times are those of the name under /dev, not of the content.
    facts.identity = block_device_identity(makedev(found.stx_rdev_major, found.stx_rdev_minor));
    return facts;
  }
  facts.identity = "inode=" + std::to_string(found.stx_ino);
  if ((found.stx_mask & STATX_BTIME) != 0) {
    facts.identity += " born=" + std::to_string(found.stx_btime.tv_sec) + "." +
                      std::to_string(found.stx_btime.tv_nsec);
  }
  facts.modified_ns = static_cast<int64_t>(found.stx_mtime.tv_sec) * 1'000'000'000 +
                      static_cast<int64_t>(found.stx_mtime.tv_nsec);
  return facts;
}

}  // namespace tidemark
