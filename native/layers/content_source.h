#pragma once

#include <cstdint>

#include "device/block_device.h"

namespace tidemark {

// Consecutive bytes of the disk that one place has. No device: they are zero.
struct SourceRun {
  uint64_t length_bytes = 0;
  BlockDevice* device = nullptr;
  uint64_t device_offset_bytes = 0;
};

// Says where a disk's bytes are. Any thread.
class ContentSource {
 public:
  virtual ~ContentSource() = default;
  // From `offset` on, at most `max_bytes` (> 0) long.
  virtual SourceRun find(uint64_t offset_bytes, uint64_t max_bytes) const noexcept = 0;
};

}  // namespace tidemark
