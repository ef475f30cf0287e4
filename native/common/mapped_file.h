#pragma once

#include <cstddef>
#include <cstdint>

#include "common/status.h"

namespace tidemark {

// Owns a shared, writable mapping of a whole file; unmaps it exactly once. The
// mapping outlives the descriptor it was made from. The file must not shrink
// while it is mapped, and what is written must be allocated: the kernel answers
// either with SIGBUS.
class MappedFile {
 public:
  static Result<MappedFile> map(int fd, uint64_t length_bytes);

  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  std::byte* data() const noexcept { return data_; }
  uint64_t length_bytes() const noexcept { return length_bytes_; }

  // Makes the pages that hold [offset, offset + length) durable. One flush of
  // the storage a call, and only pages that changed are written: one call over
  // a wide range costs less than several over narrow ones.
  Status sync(uint64_t offset_bytes, uint64_t length_bytes) const;

 private:
  MappedFile(std::byte* data, uint64_t length_bytes) noexcept
      : data_(data), length_bytes_(length_bytes) {}

  std::byte* data_ = nullptr;
  uint64_t length_bytes_ = 0;
};

}  // namespace tidemark
