// FaultDevice: wraps a device and makes requests fail, stall or take partial
// effect, as told. For tests, here and in `tidemark/testing`.
#pragma once

#include <cstdint>
#include <memory>

#include "device/block_device.h"

namespace tidemark {

class FaultDevice : public BlockDevice {
 public:
  // The next `count` requests of `op`, after `skip` that pass, complete with
  // `error` (an errno). With `partial_bytes` a write first takes effect on that
  // many bytes. A later call for the same `op` replaces this one; count 0 ends it.
  virtual void fail_next(IoOp op, int error, uint64_t count, uint64_t skip,
                         uint64_t partial_bytes) = 0;
  // Requests of `op` are kept until release_held() ends the hold; they then go on,
  // in order, to the faults and the inner device.
  virtual void hold(IoOp op) = 0;
  virtual uint64_t held_count() const = 0;
  virtual void release_held() = 0;
};

std::shared_ptr<FaultDevice> make_fault_device(std::shared_ptr<BlockDevice> inner);

}  // namespace tidemark
