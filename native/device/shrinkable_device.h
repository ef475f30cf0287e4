// ShrinkableDevice: what a BlockDevice is too when its end can be cut off.
#pragma once

#include <cstdint>

#include "common/status.h"

namespace tidemark {

class ShrinkableDevice {
 public:
  virtual ~ShrinkableDevice() = default;
  // Durably; what lies past the new end is gone, and reads as zeroes if the device grows
  // again. No write past it is under way or follows; a read may be, and may fail. Blocks.
  // kInvalidArgument: not smaller, or nothing that the device can have.
  virtual Status shrink(uint64_t size_bytes) = 0;
};

}  // namespace tidemark
