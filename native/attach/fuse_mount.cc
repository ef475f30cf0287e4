#include "attach/fuse_mount.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <sstream>

#include "common/fd.h"

namespace tidemark::attach {

namespace {

// The connection's number: the minor number of the mounted file system's device.
// From the mount table, because stat() would ask the process that may be hung.
std::string connection_of(const std::string& path) {
  std::ifstream mounts("/proc/self/mountinfo");
  std::string number;
  for (std::string line; std::getline(mounts, line);) {
    std::istringstream fields(line);
    std::string id, parent, device, root, mount_point;
    fields >> id >> parent >> device >> root >> mount_point;
    if (mount_point == path) number = device.substr(device.find(':') + 1);
  }
  return number;
}

bool write_one(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  return fd.is_open() && ::write(fd.get(), "1", 1) == 1;
}

}  // namespace

Status end_fuse_mount(const std::string& path) {
  const std::string number = connection_of(path);
  if (number.empty()) return Status::ok();
  // Where fusectl is not mounted, a forced unmount aborts the connection too.
  const bool is_aborted = write_one("/sys/fs/fuse/connections/" + number + "/abort");
  if (!is_aborted) ::umount2(path.c_str(), MNT_FORCE);
  if (connection_of(path).empty() || ::umount2(path.c_str(), MNT_DETACH) == 0) return Status::ok();
  return Status::from_errno("Cannot unmount " + path, errno);
}

}  // namespace tidemark::attach
