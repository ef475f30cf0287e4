// SparseRead: a read whose reply leaves out what the device knows to be zeroes.
//
// A plan asks the device's allocation once, and only where that pays: for long
// reads, of devices that know it from memory; and ever less often while nothing
// comes of it, so that reading a disk without holes costs next to nothing more.
// The question is asked after the read was received: a write that was answered
// before is in it. What is written meanwhile has no order with the read anyway.
#pragma once

#include <cstdint>
#include <vector>

#include "device/block_device.h"
#include "nbd/client_request.h"
#include "nbd/reply_format.h"

namespace tidemark::nbd {

// One that is under way; its parts are requests of their own.
struct SparseRead {
  ReplyTo to{};
  uint32_t parts_left = 0;
  int error = 0;  // of the first part that failed
};

class SparseReadPlanner {
 public:
  static constexpr uint64_t kMinimumBytes = 64 * 1024;
  static constexpr size_t kMaximumParts = 16;

  // True when at least one extent is known to be zero: then `extents` cover the
  // request exactly.
  bool plan(BlockDevice& device, const ClientRequest& request, std::vector<DeviceExtent>& extents);

 private:
  static constexpr uint32_t kMaximumPause = 32;  // reads between two questions

  bool is_paused() noexcept;
  void found_nothing() noexcept;

  uint32_t pause_ = 0;
  uint32_t pause_left_ = 0;
};

inline bool is_zero(const DeviceExtent& extent) noexcept {
  return (extent.flags & kExtentZero) != 0;
}

}  // namespace tidemark::nbd
