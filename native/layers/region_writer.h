// Writes a region of a file from its beginning to its end.
//
// Past the page cache where the file system allows it: a layer is written once, made durable at
// once and seldom read soon, so that its pages would only push out others'. Whole pages go
// direct; what is less than a page at the end, and a region that does not begin at a page, go
// through the page cache. So no page is ever written both ways, whoever writes the region beside.
//
// One of two buffers is on its way to the storage while the other is filled: whoever appends has
// something to do meanwhile. So a write's failure is answered by a later call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <string>

#include "common/fd.h"
#include "common/status.h"

namespace tidemark {

class RegionWriter {
 public:
  // Creates the file when it is missing. `what` opens the message of a failure.
  static Result<RegionWriter> open(const std::string& path, uint64_t offset_bytes,
                                   std::string what);

  RegionWriter(RegionWriter&&) noexcept;
  RegionWriter& operator=(RegionWriter&&) noexcept;
  ~RegionWriter();

  // After a failure nothing more may be appended: it would follow a gap.
  Status append(std::span<const std::byte> data);

  // All that was appended is durable when it succeeds.
  Status finish();

 private:
  struct Free {
    void operator()(std::byte* bytes) const noexcept { std::free(bytes); }
  };
  using Buffer = std::unique_ptr<std::byte[], Free>;  // page-aligned, kBufferBytes
  struct Write;

  RegionWriter(UniqueFd fd, uint64_t offset_bytes, std::string what, bool direct);
  void begin_write();
  Status end_write();
  Status write_rest(size_t length_bytes);
  Status write_at(uint64_t offset_bytes, std::span<const std::byte> content);
  Status stop_direct();

  std::unique_ptr<Write> write_;  // null: none is under way; ends before what follows goes
  UniqueFd fd_;
  uint64_t offset_bytes_;  // of the file: where the buffer's content goes
  std::string what_;
  bool direct_;
  Buffer buffer_;
  size_t buffered_bytes_ = 0;
  Buffer written_;  // what `write_` reads from
};

}  // namespace tidemark
