// TrackedDevice: marks before it writes.
//
// A BlockDevice in front of another. Each write-class request passes the gate,
// marks its blocks in the live map, lets the captures save what it is about to
// overwrite, and only then goes to the backing. Failed and abandoned writes
// stay marked. A trim goes through only where the backing then reads zeroes;
// otherwise it is marked and answered without being passed on.
//
// It owns the order in which the bitmap's maps are worked on: bitmap() is for
// looking only, and every operation on targets and maps goes through the
// functions here, which wait for each other and for a checkpoint's merge (so
// not on an I/O or event-loop thread; no write ever waits for them).
#pragma once

#include <chrono>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "bitmap/dirty_bitmap.h"
#include "device/block_device.h"

namespace tidemark {

// What counts as changed for a new target.
enum class TargetStart : uint8_t {
  kNothing,    // it holds what the disk holds
  kAllocated,  // it holds zeroes: what is not known to be zero
  kAll,        // who knows what it holds
  kSuspect,    // it holds an earlier state, to be compared with
};

class TrackedDevice final : public BlockDevice {
 public:
  // Both are of the same size at first. The bitmap's close() stays the caller's, after
  // the last request and settle(). A region that is not written for one to two
  // `quiet_interval`s becomes quiet. 0, for tests that choose the order: no thread is
  // started; they call quiet_down().run_round() and the bitmap's intents().work().
  TrackedDevice(std::shared_ptr<BlockDevice> backing, std::shared_ptr<DirtyBitmap> bitmap,
                std::chrono::milliseconds quiet_interval = std::chrono::seconds(30));
  ~TrackedDevice() override;

  uint64_t size_bytes() const noexcept override;
  const DeviceTraits& traits() const noexcept override;
  void submit(IoRequest& request) noexcept override;
  // The backing first, then the bitmap, then everybody sees the size: a crash in
  // between leaves a disk that the next open takes for grown. Writes wait once for
  // those in flight, as at a checkpoint. kInUse while a capture is open, kTimedOut
  // when writes did not end in time; both pass, and the next call goes on.
  Status resize(uint64_t size_bytes) override;
  // Cuts the end off, and the marks of it. As resize(), but for the order: the bitmap
  // first. kUnsupported where the backing cannot be cut.
  Status shrink(uint64_t size_bytes);

  Status lock_image(ImageLockMode mode) override;

  // "base:allocation" from the backing; "qemu:dirty-bitmap:live" (what the next
  // checkpoint adds) and "qemu:dirty-bitmap:<target uuid>" (what the target's
  // next capture would hold). A target's name stands for its UUID.
  std::vector<std::string> extent_contexts() const override;
  std::string resolve_context(std::string_view name) const override;
  Status query_extents(std::string_view context, uint64_t offset_bytes, uint64_t length_bytes,
                       size_t max_extents, std::vector<DeviceExtent>& extents) override;
  uint64_t loss_count() const noexcept override;
  void give_up() noexcept override;

  const DirtyBitmap& bitmap() const noexcept;
  BlockDevice& backing() noexcept;

  // As the functions of DirtyBitmap with these names. Those that change the
  // in-flight map answer kInUse while the target's capture is open.
  Result<uint32_t> add_target(const Uuid& id, TargetStart start = TargetStart::kNothing);
  Status remove_target(uint32_t slot);
  Status commit(uint32_t slot);
  Status give_back(uint32_t slot);
  Status stage(uint32_t slot);
  Status unstage(uint32_t slot);
  // Durable on return.
  Status mark_pending(uint32_t slot, std::span<const ByteExtent> extents);
  Status mark_pending(uint32_t slot, uint64_t offset_bytes, uint64_t length_bytes);
  void clear_pending(uint32_t slot, uint64_t offset_bytes, uint64_t length_bytes);

  // A checkpoint makes pending what is suspect still: every cut is whole, compared
  // or not. What becomes suspect after the cut stays so through the commit.
  Status mark_suspect(uint32_t slot, uint64_t offset_bytes, uint64_t length_bytes,
                      SuspicionCauses causes);
  Status mark_all_suspect(SuspicionCauses causes);
  // Before the content is read that is compared with the target's head. Answers what
  // settle_comparison() wants to know. Why comparing a disk that is written to is right:
  //  - A write marks its blocks before it is submitted, and marks do not matter to
  //    suspicion: whatever is written after, or while, a block is read travels anyway.
  //  - So "equal" has to be true at one instant only: from then on the marks account
  //    for every difference to the head, until the next commit makes another head.
  //    Cycles of a target do not overlap, so there is none before the settling.
  //  - What is staged would replace the head's content at the next commit: it is not
  //    compared but pending again.
  //  - Content that was read may be lost later (an upstream without its cache): who
  //    finds that out marks it suspect, the count changes, and nothing is settled.
  Result<uint64_t> begin_comparison(uint32_t slot);
  // `equal` is not suspect any more, `different` is durably pending instead. False, and
  // nothing has changed, when blocks became suspect since begin_comparison().
  Result<bool> settle_comparison(uint32_t slot, uint64_t suspicion_count,
                                 std::span<const ByteExtent> equal,
                                 std::span<const ByteExtent> different);

  // DirtyBitmap's.
  Result<uint64_t> advance_sequence(uint64_t above = 0);

  // Before the bitmap's close(), when nobody writes any more: flushes the backing and
  // takes back every mark of the intent log. On an error marks stay, and after the end
  // of this boot their regions are suspect; close() goes on all the same.
  Status settle();
  IntentStatus intent_status() const;

  // For the parts of this folder.
  class Impl;
  Impl& impl() noexcept { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace tidemark
