// Reads any bytes of a device whose requests must be multiples of its minimum
// block; blocks, so not on an I/O thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "common/status.h"
#include "device/block_device.h"

namespace tidemark {

Status read_aligned(BlockDevice& device, uint64_t offset_bytes, std::span<std::byte> into);

}  // namespace tidemark
