// Whether a layer's data still is what its checksums were made of.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "layers/layer.h"

namespace tidemark {

// `data` is what the file has from `within_bytes` into the extent on: whole granules, but
// for the extent's last. Answers the disk offset of the first that differs.
std::optional<uint64_t> first_damaged_granule(const Layer& layer, const LayerExtent& extent,
                                              uint64_t within_bytes,
                                              std::span<const std::byte> data) noexcept;

// A part of an extent, in bytes from its begin.
struct ExtentPart {
  uint64_t from_bytes;
  uint64_t end_bytes;
  bool operator==(const ExtentPart&) const = default;
};

// The smallest part of whole granules around it.
ExtentPart whole_granules(const Layer& layer, const LayerExtent& extent, ExtentPart part) noexcept;

}  // namespace tidemark
