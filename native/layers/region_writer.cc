#include "layers/region_writer.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

#include "layers/file_io.h"

namespace tidemark {

namespace {

constexpr size_t kPageBytes = 4096;
constexpr size_t kBufferBytes = 1U << 20;

// Some file systems refuse O_DIRECT when the file is opened.
Result<UniqueFd> open_file(const std::string& path, bool& direct) {
  constexpr int kFlags = O_RDWR | O_CREAT | O_CLOEXEC;
  UniqueFd fd(::open(path.c_str(), kFlags | (direct ? O_DIRECT : 0), 0600));
  if (!fd.is_open() && direct && errno == EINVAL) {
    direct = false;
    fd = UniqueFd(::open(path.c_str(), kFlags, 0600));
  }
  if (!fd.is_open()) return Status::from_errno("Cannot open layer " + path, errno);
  return fd;
}

}  // namespace

Result<RegionWriter> RegionWriter::open(const std::string& path, uint64_t offset_bytes,
                                        std::string what) {
  bool direct = offset_bytes % kPageBytes == 0;
  auto fd = open_file(path, direct);
  if (!fd.is_ok()) return fd.status();
  return RegionWriter(std::move(fd).value(), offset_bytes, std::move(what), direct);
}

RegionWriter::RegionWriter(UniqueFd fd, uint64_t offset_bytes, std::string what, bool direct)
    : fd_(std::move(fd)),
      offset_bytes_(offset_bytes),
      what_(std::move(what)),
      direct_(direct),
      buffer_(static_cast<std::byte*>(std::aligned_alloc(kPageBytes, kBufferBytes))) {
  if (buffer_ == nullptr) throw std::bad_alloc();
}

Status RegionWriter::append(std::span<const std::byte> data) {
  while (!data.empty()) {
    const size_t length_bytes = std::min(data.size(), kBufferBytes - buffered_bytes_);
    std::memcpy(buffer_.get() + buffered_bytes_, data.data(), length_bytes);
    buffered_bytes_ += length_bytes;
    data = data.subspan(length_bytes);
    if (buffered_bytes_ < kBufferBytes) continue;
    if (Status status = write_out(kBufferBytes); !status.is_ok()) return status;
  }
  return Status::ok();
}

Status RegionWriter::finish() {
  if (Status status = write_out(buffered_bytes_ / kPageBytes * kPageBytes); !status.is_ok()) {
    return status;
  }
  if (buffered_bytes_ > 0) {
    if (Status status = stop_direct(); !status.is_ok()) return status;
    if (Status status = write_out(buffered_bytes_); !status.is_ok()) return status;
  }
  return sync_data(fd_.get(), what_);
}

// The buffer's first `length_bytes`; the rest moves to its beginning.
Status RegionWriter::write_out(size_t length_bytes) {
  const std::span<const std::byte> content(buffer_.get(), length_bytes);
  Status status = write_whole(fd_.get(), offset_bytes_, content, {}, what_);
  if (!status.is_ok() && direct_ && status.code() == ErrorCode::kInvalidArgument) {
    // A device whose blocks are larger than a page.
    if (Status stopped = stop_direct(); !stopped.is_ok()) return stopped;
    status = write_whole(fd_.get(), offset_bytes_, content, {}, what_);
  }
  if (!status.is_ok()) return status;
  offset_bytes_ += length_bytes;
  buffered_bytes_ -= length_bytes;
  std::memmove(buffer_.get(), buffer_.get() + length_bytes, buffered_bytes_);
  return status;
}

Status RegionWriter::stop_direct() {
  if (!direct_) return Status::ok();
  direct_ = false;
  const int flags = ::fcntl(fd_.get(), F_GETFL);
  if (flags < 0 || ::fcntl(fd_.get(), F_SETFL, flags & ~O_DIRECT) != 0) {
    return Status::from_errno(what_, errno);
  }
  return Status::ok();
}

}  // namespace tidemark
