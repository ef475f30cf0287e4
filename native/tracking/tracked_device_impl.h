#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <string_view>
#include <vector>

#include "common/mutex.h"
#include "tracking/canary.h"
#include "tracking/capture_slots.h"
#include "tracking/gate.h"
#include "tracking/quiet_down.h"
#include "tracking/tracked_device.h"

namespace tidemark {

class TrackedDevice::Impl {
 public:
  Impl(std::shared_ptr<BlockDevice> backing, std::shared_ptr<DirtyBitmap> bitmap,
       std::chrono::milliseconds quiet_interval);

  void submit(IoRequest& request) noexcept;
  // Marked, and nothing of a capture is lost any more: the backing's turn.
  void pass_on(IoRequest& request) noexcept;
  // What Gate::open() answered.
  void submit_parked(IoRequest* first) noexcept;

  BlockDevice& backing() noexcept { return *backing_; }
  const std::shared_ptr<BlockDevice>& shared_backing() const noexcept { return backing_; }
  DirtyBitmap& bitmap() noexcept { return *bitmap_; }
  Gate& gate() noexcept { return gate_; }
  Gate& flushes() noexcept { return flushes_; }
  QuietDown& quiet_down() noexcept { return quiet_down_; }
  CaptureSlots& captures() noexcept { return captures_; }
  Canary& canary() noexcept { return canary_; }

  // Whoever works on the bitmap's targets and maps holds it; the exception to
  // "no lock over I/O" that makes the maps' one-at-a-time rule true. Never taken
  // on the way of a request.
  Mutex& maps_mutex() noexcept { return maps_mutex_; }

  // The targets as extent queries see them, without the maps' mutex. What is
  // listed has its maps: hide_target() comes before they go.
  std::vector<DirtyBitmap::Target> targets() const;
  void refresh_targets();
  void hide_target(uint32_t slot);
  // False: no target of this name.
  bool append_target_extents(std::string_view id, ByteExtent range, size_t max_extents,
                             std::vector<DeviceExtent>& extents);

  // Every write that came before has left when it answers true. Pauses writes for
  // at most `limit`.
  bool drain_once(std::chrono::milliseconds limit);

  uint64_t size_bytes() const noexcept { return size_bytes_.load(std::memory_order_acquire); }
  Status resize(uint64_t size_bytes);
  Status shrink(uint64_t size_bytes);

 private:
  void submit_write(IoRequest& request) noexcept;
  void submit_flush(IoRequest& request) noexcept;
  Status grow_bitmap(uint64_t size_bytes) REQUIRES(maps_mutex_);
  Status shrink_bitmap(uint64_t size_bytes) REQUIRES(maps_mutex_);
  bool drain_patiently();
  bool is_inside(const IoRequest& request) const noexcept;
  static void on_written(IoRequest& request, void* context, uint64_t ticket, int error) noexcept;
  static void on_flushed(IoRequest& request, void* context, uint64_t ticket, int error) noexcept;

  const std::shared_ptr<BlockDevice> backing_;
  const std::shared_ptr<DirtyBitmap> bitmap_;
  std::atomic<uint64_t> size_bytes_;  // once the bitmap covers it
  const bool passes_trim_on_;
  Gate gate_;
  Canary canary_;
  Gate flushes_;  // never closed: tells when those under way have ended
  CaptureSlots captures_;
  Mutex maps_mutex_;

  mutable Mutex targets_mutex_;
  std::vector<DirtyBitmap::Target> targets_ GUARDED_BY(targets_mutex_);

  QuietDown quiet_down_;  // its thread uses all of the above, and ends first
};

}  // namespace tidemark
