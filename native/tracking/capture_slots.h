// CaptureSlots: the open captures of one device, at most one a target.
//
// A writer asks here on each write: one load when there is no capture, else one
// for each slot. It uses what it finds while it is inside the gate. So a state is
// published only, and let go only, when a checkpoint has drained the gate: a
// closed capture's state is kept until then (its saved blocks are freed at once).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "bitmap/dirty_bitmap.h"
#include "common/mutex.h"
#include "tracking/frozen_blocks.h"

namespace tidemark {

class CaptureSlots {
 public:
  // -- Writers, inside the gate -----------------------------------------------
  bool has_any() const noexcept { return active_.load(std::memory_order_acquire) != 0; }
  FrozenBlocks* at(uint32_t slot) const noexcept {
    return frozen_[slot].load(std::memory_order_acquire);
  }
  bool must_save(uint64_t offset_bytes, uint64_t end_bytes) const noexcept;

  // -- Control ------------------------------------------------------------------
  // False when the slot has an open capture.
  bool occupy(uint32_t slot);
  bool is_occupied(uint32_t slot) const;
  bool has_occupied() const;
  // The slot is occupied, the gate closed and drained. Answers the states that
  // nobody can use any more, to be destroyed when the gate is open again.
  std::vector<std::shared_ptr<FrozenBlocks>> publish(uint32_t slot,
                                                     std::shared_ptr<FrozenBlocks> frozen);
  // Ends what occupy() began; writers that come now do not see the capture.
  void vacate(uint32_t slot);
  // A writer may still be looking at the blocks of the slot's last capture.
  bool has_retired(uint32_t slot) const;
  // As publish(), without a capture.
  std::vector<std::shared_ptr<FrozenBlocks>> take_retired();

 private:
  std::atomic<uint32_t> active_{0};  // bit n: frozen_[n] is set
  std::array<std::atomic<FrozenBlocks*>, kMaxTargets> frozen_{};

  mutable Mutex mutex_;
  uint32_t occupied_ GUARDED_BY(mutex_) = 0;
  uint32_t retired_slots_ GUARDED_BY(mutex_) = 0;
  std::array<std::shared_ptr<FrozenBlocks>, kMaxTargets> owned_ GUARDED_BY(mutex_);
  std::vector<std::shared_ptr<FrozenBlocks>> retired_ GUARDED_BY(mutex_);
};

}  // namespace tidemark
