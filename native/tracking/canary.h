// Canary: a running disk asks itself whether its tracking is alive.
//
// Two questions, and neither costs a guest more than two loads a write:
//
//  - Does a known write appear in the next cut? The first write that goes to the backing
//    after a cut is remembered, behind the mark and apart from the maps. When the next
//    cut's maps are merged its block must be pending or in flight for every target.
//  - Does the backing change although nothing of ours went there? The backing says when
//    it was written last (BackingFacts::write_stamp). Between two looks at it that lie in
//    a pause of the guest's writes it must not move. Whoever writes past the filter moves
//    it: another program, or this one, should the filter be out of its path.
//
// A look says "foreign" only when nothing of ours explains it: no write was inside the
// gate at the look before, none has passed on since, and for a backing that counts what
// reaches the device nothing waits in a cache (no region is marked). A write that such a
// pause does not follow within a look is not seen; docs/traps.md says so.
//
// Threads: note_write() on any, inside the gate; take_sample() under the closed, drained
// gate; look() on one at a time.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>

#include "device/block_device.h"
#include "tracking/gate.h"

namespace tidemark {

class Canary {
 public:
  Canary(const BlockDevice& backing, const Gate& gate);

  // Before the write goes to the backing.
  void note_write(uint64_t offset_bytes) noexcept {
    if (!was_written_.load()) was_written_.store(true);
    if (sample_.load(std::memory_order_relaxed) == kNone) {
      sample_.store(offset_bytes, std::memory_order_relaxed);
    }
  }
  // What else of ours may change the backing: before it and after it.
  void note_change() noexcept { was_written_.store(true); }

  // A byte that was written since the last call.
  std::optional<uint64_t> take_sample() noexcept;

  // True: somebody else has written to the backing since the last look. `has_marks`: the
  // intent log has some, so that something may not have reached the device yet.
  bool look(bool has_marks);

 private:
  static constexpr uint64_t kNone = UINT64_MAX;

  const BlockDevice& backing_;
  const Gate& gate_;
  std::atomic<bool> was_written_{false};  // since the last look
  std::atomic<uint64_t> sample_{kNone};
  std::optional<uint64_t> known_stamp_;  // look()'s; none: nothing can be said next time
};

}  // namespace tidemark
