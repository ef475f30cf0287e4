#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "common/status.h"

namespace tidemark {

// A part of a file, mapped shared for reading; unmapped exactly once.
class FileMapping {
 public:
  FileMapping() = default;
  FileMapping(FileMapping&& other) noexcept
      : base_(std::exchange(other.base_, nullptr)),
        mapped_bytes_(std::exchange(other.mapped_bytes_, 0)),
        bytes_(std::exchange(other.bytes_, {})) {}
  FileMapping& operator=(FileMapping&& other) noexcept {
    std::swap(base_, other.base_);
    std::swap(mapped_bytes_, other.mapped_bytes_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~FileMapping() {
    if (base_ != nullptr) ::munmap(base_, mapped_bytes_);
  }

  // `length_bytes` is not 0 and inside the file; the offset may be any.
  static Result<FileMapping> open(int fd, uint64_t offset_bytes, size_t length_bytes) {
    const auto page_bytes = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
    const auto lead_bytes = static_cast<size_t>(offset_bytes % page_bytes);
    FileMapping mapping;
    mapping.mapped_bytes_ = lead_bytes + length_bytes;
    void* base = ::mmap(nullptr, mapping.mapped_bytes_, PROT_READ, MAP_SHARED, fd,
                        static_cast<off_t>(offset_bytes - lead_bytes));
    if (base == MAP_FAILED) return Status::from_errno("Cannot map the file", errno);
    mapping.base_ = base;
    mapping.bytes_ = {static_cast<const std::byte*>(base) + lead_bytes, length_bytes};
    return mapping;
  }

  std::span<const std::byte> bytes() const noexcept { return bytes_; }

 private:
  void* base_ = nullptr;
  size_t mapped_bytes_ = 0;
  std::span<const std::byte> bytes_;
};

}  // namespace tidemark
