// Whole reads and writes of a file for the layer code's own, blocking, use.
// EINTR and short transfers are dealt with here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "common/fd.h"
#include "common/status.h"

namespace tidemark {

// `what` opens the message of a failure: "Cannot read layer /a/b".
// A file that ends inside the range gives kTruncated.
Status read_whole(int fd, uint64_t offset_bytes, std::span<std::byte> into,
                  const std::string& what);

// Writes `first`, then `second`, at consecutive offsets; either may be empty.
Status write_whole(int fd, uint64_t offset_bytes, std::span<const std::byte> first,
                   std::span<const std::byte> second, const std::string& what);

Status sync_data(int fd, const std::string& what);

}  // namespace tidemark
