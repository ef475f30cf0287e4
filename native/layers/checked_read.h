// Reads a part of a layer and holds every granule that it touches against its checksum.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "layers/layer.h"

namespace tidemark {

// Of one extent that has data. `buffer` is the caller's, to be used again; `what` opens the
// message of a failure. kCorrupt names the first block that differs by its disk offset.
Status read_checked(const Layer& layer, uint64_t disk_offset_bytes, std::span<std::byte> into,
                    std::vector<std::byte>& buffer, const std::string& what);

}  // namespace tidemark
