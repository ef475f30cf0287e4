#include "attach/device_claim.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace tidemark::attach {

Result<UniqueFd> claim_and_flush(const std::string& device_path) {
  const std::string what = "Cannot detach " + device_path;
  UniqueFd fd(::open(device_path.c_str(), O_RDONLY | O_EXCL | O_CLOEXEC));
  if (!fd.is_open() && errno == EBUSY) {
    return Status(ErrorCode::kInUse,
                  what +
                      ": because it is in use, by a mounted file system for example. "
                      "Unmount it first.",
                  EBUSY);
  }
  if (!fd.is_open()) return Status::from_errno(what, errno);
  if (::fsync(fd.get()) != 0) return Status::from_errno(what + ": it cannot be flushed", errno);
  return fd;
}

}  // namespace tidemark::attach
