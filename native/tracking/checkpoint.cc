#include "tracking/checkpoint.h"

#include <algorithm>
#include <cassert>

#include "common/failpoint.h"
#include "tracking/frozen_capture.h"
#include "tracking/live_reader.h"
#include "tracking/pass_on.h"
#include "tracking/tracked_device_impl.h"

namespace tidemark {

namespace {

using Clock = std::chrono::steady_clock;
using Captures = std::vector<std::shared_ptr<SlotCapture>>;
using Retired = std::vector<std::shared_ptr<FrozenBlocks>>;
using Samples = std::vector<std::optional<uint64_t>>;  // of the members' canaries

// Held for a whole checkpoint, its I/O included: being alone is what it is for.
Mutex& checkpoint_turn() {
  static Mutex turn;
  return turn;
}

// All members' map mutexes. Others hold at most one and never wait for a
// checkpoint meanwhile, so the order of taking them does not matter.
class MapsOfAll {
 public:
  explicit MapsOfAll(std::span<const CheckpointMember> members) {
    for (const CheckpointMember& member : members) {
      locks_.push_back(std::make_unique<MutexLock>(member.device->impl().maps_mutex()));
    }
  }

 private:
  std::vector<std::unique_ptr<MutexLock>> locks_;
};

Status refuse(std::string reason, ErrorCode code = ErrorCode::kInvalidArgument) {
  return {code, "Cannot take a checkpoint: because " + std::move(reason)};
}

Status check_members(std::span<const CheckpointMember> members) {
  if (members.empty()) return refuse("there is no disk. Name at least one.");
  for (size_t i = 0; i < members.size(); ++i) {
    if (members[i].device == nullptr) return refuse("a disk is missing. Name open disks.");
    for (size_t j = 0; j < i; ++j) {
      if (members[i].device == members[j].device) {
        return refuse("a disk is named twice. Name each once.");
      }
    }
  }
  return Status::ok();
}

// With the maps' mutexes held.
Status prepare_maps(const CheckpointMember& member) {
  DirtyBitmap& bitmap = member.device->impl().bitmap();
  const auto targets = bitmap.targets();
  const bool is_target = std::any_of(targets.begin(), targets.end(), [&](const auto& target) {
    return target.slot == member.slot;
  });
  if (!is_target) return refuse("the slot has no target. Add the target first.");
  if (member.device->impl().captures().is_occupied(member.slot)) {
    return refuse("the target's last capture is open. Close it first.", ErrorCode::kInUse);
  }
  if (bitmap.next_extent(MapId::in_flight(member.slot), 0, bitmap.disk_size_bytes())) {
    return refuse("the target's last changes are undecided. Commit them or give them back.");
  }
  // What nobody compared travels: a cut without it would not be the disk.
  Status status = bitmap.suspect_to_pending(member.slot, 0, bitmap.disk_size_bytes());
  if (!status.is_ok()) return status;
  // Left over when an earlier merge failed: flipping now would mix two cuts.
  if (!bitmap.next_extent(MapId::closed(), 0, bitmap.disk_size_bytes())) return Status::ok();
  return bitmap.merge_closed();
}

// Occupies the member's slot for the capture it makes.
Result<std::shared_ptr<SlotCapture>> make_capture(const CheckpointMember& member,
                                                  bool with_capture) {
  TrackedDevice::Impl& device = member.device->impl();
  std::shared_ptr<FrozenBlocks> frozen;
  if (with_capture) {
    auto created = FrozenBlocks::create(device.shared_backing(), device.bitmap(), member.slot,
                                        member.capture_limits, member.capture_scope);
    if (!created.is_ok()) return created.status();
    frozen = std::move(created).value();
  }
  [[maybe_unused]] const bool is_ours = device.captures().occupy(member.slot);
  assert(is_ours);  // prepare_maps() has seen it free, and nobody else occupies slots
  std::shared_ptr<SlotCapture> capture;
  if (with_capture) {
    capture = std::make_shared<FrozenCapture>(member.device, member.slot, std::move(frozen));
  } else {
    capture = std::make_shared<LiveReader>(member.device, member.slot);
  }
  return capture;
}

Result<Captures> prepare(std::span<const CheckpointMember> members, bool with_captures) {
  for (const CheckpointMember& member : members) {
    if (Status status = prepare_maps(member); !status.is_ok()) return status;
  }
  Captures captures;
  for (const CheckpointMember& member : members) {
    auto capture = make_capture(member, with_captures);
    if (!capture.is_ok()) return capture.status();
    captures.push_back(std::move(capture).value());
  }
  return captures;
}

bool wait_drained(std::span<const CheckpointMember> members, Clock::time_point deadline) {
  return std::all_of(members.begin(), members.end(), [deadline](const CheckpointMember& member) {
    return member.device->impl().gate().wait_drained(deadline);
  });
}

// Opens all gates before it passes on what was parked at any of them.
void open_gates(std::span<const CheckpointMember> members) {
  std::vector<ParkedList> parked;
  for (const CheckpointMember& member : members) {
    TrackedDevice::Impl& device = member.device->impl();
    parked.push_back({&device, device.gate().open()});
  }
  pass_on_parked(parked);
}

// The cut itself. False when the drain took too long; then nothing was done.
bool flip_under_gates(std::span<const CheckpointMember> members, const Captures& captures,
                      std::chrono::milliseconds drain_limit, CheckpointOutcome& outcome,
                      Retired& retired, Samples& samples) {
  const Clock::time_point begin = Clock::now();
  uint64_t in_flight = 0;
  for (const CheckpointMember& member : members) in_flight += member.device->impl().gate().close();
  const bool is_drained = wait_drained(members, begin + drain_limit);
  if (is_drained) {
    for (size_t i = 0; i < members.size(); ++i) {
      failpoint("flip");
      members[i].device->impl().bitmap().flip();
      samples.push_back(members[i].device->impl().canary().take_sample());
      for (auto& unused : captures[i]->publish()) retired.push_back(std::move(unused));
    }
  }
  open_gates(members);
  const auto pause = std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - begin);
  outcome.pause_ns = static_cast<uint64_t>(pause.count());
  outcome.requests_in_flight = static_cast<uint32_t>(in_flight);
  return is_drained;
}

Status merge(std::span<const CheckpointMember> members, const CheckpointOptions& options) {
  const uint64_t limit_bytes = options.with_captures ? UINT64_MAX : options.limit_bytes;
  for (const CheckpointMember& member : members) {
    DirtyBitmap& bitmap = member.device->impl().bitmap();
    Status status = bitmap.merge_closed();
    if (status.is_ok()) status = bitmap.take_pending(member.slot, limit_bytes);
    if (!status.is_ok()) return status;
  }
  return Status::ok();
}

bool has_sample(DirtyBitmap& bitmap, uint64_t offset_bytes) {
  if (offset_bytes >= bitmap.disk_size_bytes()) return true;  // cut off since
  const uint64_t block_index = offset_bytes / bitmap.granularity_bytes();
  const auto targets = bitmap.targets();
  return std::all_of(targets.begin(), targets.end(), [&](const auto& target) {
    return bitmap.is_dirty(MapId::pending(target.slot), block_index) ||
           bitmap.is_dirty(MapId::in_flight(target.slot), block_index);
  });
}

// A write of which we know is in no map: then nobody knows what else is not. No point is
// made of such a cut; at the next one all of the disk is taken along.
Status check_samples(std::span<const CheckpointMember> members, const Samples& samples) {
  Status alive = Status::ok();
  for (size_t i = 0; i < members.size(); ++i) {
    DirtyBitmap& bitmap = members[i].device->impl().bitmap();
    if (!samples[i] || has_sample(bitmap, *samples[i])) continue;
    alive = refuse("a write of the guest was not marked. The whole disk will be compared.",
                   ErrorCode::kIo);
    Status status = bitmap.mark_all_suspect(SuspicionCause::kUnmarkedWrite);
    if (!status.is_ok()) bitmap.intents().distrust(status);
  }
  return alive;
}

// After a merge that failed: no bit is lost, they wait in the closed, pending or
// in-flight maps. What cannot be given back now, prepare_maps() reports later.
void undo(std::span<const CheckpointMember> members, const Captures& captures) {
  for (const auto& capture : captures) capture->close();
  for (const CheckpointMember& member : members) {
    (void)member.device->impl().bitmap().give_back(member.slot);
  }
}

}  // namespace

Result<CheckpointOutcome> take_checkpoint(std::span<const CheckpointMember> members,
                                          const CheckpointOptions& options) {
  if (Status status = check_members(members); !status.is_ok()) return status;
  const MutexLock turn(checkpoint_turn());
  const MapsOfAll maps(members);
  Result<Captures> prepared = prepare(members, options.with_captures);
  if (!prepared.is_ok()) return prepared.status();
  const Captures& captures = prepared.value();

  CheckpointOutcome outcome;
  Retired retired;  // destroyed when the gates are open
  Samples samples;
  if (!flip_under_gates(members, captures, options.drain_limit, outcome, retired, samples)) {
    return refuse("writes in flight did not end in time. Try again, or allow more time.",
                  ErrorCode::kTimedOut);
  }
  Status status = merge(members, options);
  if (status.is_ok()) status = check_samples(members, samples);
  if (!status.is_ok()) {
    undo(members, captures);
    return status;
  }
  for (const auto& capture : captures) {
    capture->on_merged();
    outcome.captures.push_back(capture);
  }
  return outcome;
}

}  // namespace tidemark
