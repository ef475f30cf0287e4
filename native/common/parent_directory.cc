#include "common/parent_directory.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "common/fd.h"

namespace tidemark {

std::string parent_directory_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

Status sync_parent_directory(const std::string& path, const std::string& what) {
  const std::string name = parent_directory_of(path);
  const UniqueFd directory(::open(name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.is_open() && ::fsync(directory.get()) == 0) return Status::ok();
  return Status::from_errno(what + ": its directory " + name, errno);
}

}  // namespace tidemark
