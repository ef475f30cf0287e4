// CaptureDevice: a capture as a disk that can be read, as the NBD server exports it.
//
// It reads as the tracked disk was at the cut, and knows one dirty context beside
// "base:allocation": "qemu:dirty-bitmap:NAME", the blocks of exactly that cut. A
// read of a broken capture fails, and so does one outside of the capture's scope.
// A capture's reads block, so they run on threads of the device's own: the
// backing's engine may be what they wait for. One reader keeps few of them busy;
// they start on demand.
#pragma once

#include <memory>
#include <string_view>

#include "device/block_device.h"
#include "tracking/capture.h"

namespace tidemark {

// `name` is what people call the capture's target.
std::shared_ptr<BlockDevice> make_capture_device(std::shared_ptr<Capture> capture,
                                                 std::string_view name);

}  // namespace tidemark
