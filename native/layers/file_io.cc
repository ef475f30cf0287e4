#include "layers/file_io.h"

#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>

namespace tidemark {

Status read_whole(int fd, uint64_t offset_bytes, std::span<std::byte> into,
                  const std::string& what) {
  while (!into.empty()) {
    const ssize_t n = ::pread(fd, into.data(), into.size(), static_cast<off_t>(offset_bytes));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Status::from_errno(what, errno);
    if (n == 0) {
      return {ErrorCode::kTruncated, what + ": because the file ends at byte " +
                                         std::to_string(offset_bytes) +
                                         ". Copy it again from where it is whole."};
    }
    into = into.subspan(static_cast<size_t>(n));
    offset_bytes += static_cast<uint64_t>(n);
  }
  return Status::ok();
}

Status write_whole(int fd, uint64_t offset_bytes, std::span<const std::byte> first,
                   std::span<const std::byte> second, const std::string& what) {
  while (!first.empty() || !second.empty()) {
    // writev does not modify its sources; struct iovec serves both ways.
    iovec parts[2] = {{const_cast<std::byte*>(first.data()), first.size()},
                      {const_cast<std::byte*>(second.data()), second.size()}};
    const ssize_t n = ::pwritev(fd, parts, 2, static_cast<off_t>(offset_bytes));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Status::from_errno(what, errno);
    const auto done = static_cast<size_t>(n);
    const size_t of_first = done < first.size() ? done : first.size();
    first = first.subspan(of_first);
    second = second.subspan(done - of_first);
    offset_bytes += done;
  }
  return Status::ok();
}

Status sync_data(int fd, const std::string& what) {
  if (::fdatasync(fd) != 0) return Status::from_errno(what, errno);
  return Status::ok();
}

}  // namespace tidemark
