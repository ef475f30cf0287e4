// Blocking I/O on a BlockDevice, for control-plane threads and tests. Never on
// an I/O thread: its completions may be what the call waits for.
#pragma once

#include <cstddef>
#include <functional>
#include <span>

#include "common/status.h"
#include "device/block_device.h"

namespace tidemark {

// Calls `submit` and waits until it has completed the request; 0 or a positive errno.
int wait_for(IoRequest& request, const std::function<void(IoRequest&)>& submit);
int submit_and_wait(BlockDevice& device, IoRequest& request) noexcept;

Status read_sync(BlockDevice& device, uint64_t offset_bytes, std::span<std::byte> into);
Status write_sync(BlockDevice& device, uint64_t offset_bytes, std::span<const std::byte> from,
                  uint32_t flags = 0);
Status flush_sync(BlockDevice& device);
Status trim_sync(BlockDevice& device, uint64_t offset_bytes, uint64_t length_bytes);
Status write_zeroes_sync(BlockDevice& device, uint64_t offset_bytes, uint64_t length_bytes,
                         uint32_t flags = 0);

}  // namespace tidemark
