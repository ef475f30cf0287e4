// ExchangeableDevice: passes everything on to a device behind it that may be
// exchanged for another of its size, also while requests are in flight.
//
// For a disk whose content comes in states that never change themselves, the
// recovery points of a replica: whoever reads it sees one state, then the next.
// It has the traits of its first device for good.
#pragma once

#include <memory>

#include "device/block_device.h"

namespace tidemark {

class ExchangeableDevice : public BlockDevice {
 public:
  // What is submitted from now on goes to `next`. On return nothing is in flight at
  // the former device any more, and it is let go of. Blocks; from any thread.
  // kInvalidArgument: `next` has another size.
  virtual Status exchange(std::shared_ptr<BlockDevice> next) = 0;
};

std::shared_ptr<ExchangeableDevice> make_exchangeable_device(std::shared_ptr<BlockDevice> first);

}  // namespace tidemark
