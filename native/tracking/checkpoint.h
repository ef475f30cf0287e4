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
  CaptureScope capture_scope = CaptureScope::kChanged;
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
  // From closing the first gate until the last parked write was passed on.
  uint64_t pause_ns = 0;
  // Write-class, marked and not yet complete at the backings when the gates closed.
  uint32_t requests_in_flight = 0;
  std::vector<std::shared_ptr<Capture>> captures;  // in the order of the members
};

// One at a time in a process; others wait for their turn. Blocks (it drains,
// then syncs the maps), so not on an I/O or event-loop thread.
//  - kTimedOut: what was in flight did not end in time; nothing was flipped, the
//    gates are open again.
//  - kInUse: the target's last capture on a member is open. kInvalidArgument: its
//    last changes are neither committed nor given back; or no such members.
//  - the errors of the spill file and of the maps' sync. After a failed sync the
//    blocks of the cut are back where the next checkpoint finds them.
Result<CheckpointOutcome> take_checkpoint(std::span<const CheckpointMember> members,
                                          const CheckpointOptions& options);

}  // namespace tidemark
