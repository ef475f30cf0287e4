#include "common/mapped_file.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cassert>
#include <cerrno>
#include <utility>

namespace tidemark {

Result<MappedFile> MappedFile::map(int fd, uint64_t length_bytes) {
  void* data = ::mmap(nullptr, length_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (data == MAP_FAILED) return Status::from_errno("Cannot map the file into memory", errno);
  return MappedFile(static_cast<std::byte*>(data), length_bytes);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      length_bytes_(std::exchange(other.length_bytes_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(length_bytes_, other.length_bytes_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(data_, length_bytes_);
}

Status MappedFile::sync(uint64_t offset_bytes, uint64_t length_bytes) const {
  assert(offset_bytes <= length_bytes_ && length_bytes <= length_bytes_ - offset_bytes);
  if (length_bytes == 0) return Status::ok();
  static const auto page_bytes = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  const uint64_t start = offset_bytes / page_bytes * page_bytes;
  if (::msync(data_ + start, offset_bytes + length_bytes - start, MS_SYNC) != 0) {
    return Status::from_errno("Cannot make mapped pages durable", errno);
  }
  return Status::ok();
}

}  // namespace tidemark
