// A checkpoint: the instant at which all disks of a set are cut, under one
// write barrier.
//
// take_checkpoint() closes the gates of all devices, waits (time-boxed) for
// what is already submitted to the backings, flips every live map, activates
// the captures, and opens the gates. Requests that arrive meanwhile are parked,
// not failed, and go on when the gates open. The maps are merged afterwards,
// with the gates open.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/status.h"
#include "tracking/capture.h"
#include "tracking/tracked_device.h"

namespace tidemark {

struct CheckpointMember {
  std::shared_ptr<TrackedDevice> device;
  uint32_t slot = 0;  // of the target, in this device's bitmap
  CaptureLimits capture_limits;
};

struct CheckpointOptions {
  std::chrono::milliseconds drain_limit{50};
  // False: no capture; reads see the disk as it is when they happen. For
  // passes whose result is not a recovery point (initial replication).
  bool with_captures = true;
  // Without captures: takes about this much of each member's pending blocks, and
  // leaves the rest pending.
  uint64_t limit_bytes = UINT64_MAX;
};

struct CheckpointOutcome {
  uint64_t pause_ns = 0;            // gates closed
  uint32_t requests_in_flight = 0;  // write-class, submitted to the backings when the gates closed
  std::vector<std::shared_ptr<Capture>> captures;  // in the order of the members
};

// kTimedOut: what was in flight did not end in time; nothing was flipped, the
// gates are open again. One at a time in a process; a member's earlier capture
// of the same slot must be closed.
Result<CheckpointOutcome> take_checkpoint(std::span<const CheckpointMember> members,
                                          const CheckpointOptions& options);

}  // namespace tidemark
