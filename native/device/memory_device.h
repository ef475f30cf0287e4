#pragma once

#include <memory>

#include "device/block_device.h"

namespace tidemark {

// A disk in memory: zero at first, completes inline, safe from any thread.
// Allocation is known in steps of 64 KiB: what was never written is a hole.
// Null when the address space has no room for it.
std::shared_ptr<BlockDevice> make_memory_device(uint64_t size_bytes);

}  // namespace tidemark
