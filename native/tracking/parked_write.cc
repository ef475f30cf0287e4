#include "tracking/parked_write.h"

#include "tracking/frozen_blocks.h"
#include "tracking/tracked_device_impl.h"

namespace tidemark {

ParkedWrite::ParkedWrite(IoRequest& request, TrackedDevice::Impl& device)
    : request_(request), device_(device), cursor_bytes_(request.offset_bytes) {}

void ParkedWrite::start(IoRequest& request, TrackedDevice::Impl& device) {
  auto* const parked = new ParkedWrite(request, device);  // run() deletes it
  parked->run();
}

// Only the thread that brings waits_ to zero goes on; the one that starts a
// window holds a wait of its own, so that reads that end at once do not recurse.
void ParkedWrite::run() noexcept {
  bool is_last = false;
  while (!is_last) {
    waits_.store(1, std::memory_order_relaxed);
    is_last = save_next_window();
    if (waits_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  }
  IoRequest& request = request_;
  TrackedDevice::Impl& device = device_;
  delete this;
  device.pass_on(request);
}

void ParkedWrite::saved() noexcept {
  if (waits_.fetch_sub(1, std::memory_order_acq_rel) == 1) run();
}

// True when there is nothing more to save after this window.
bool ParkedWrite::save_next_window() noexcept {
  for (; slot_ < kMaxTargets; ++slot_, cursor_bytes_ = request_.offset_bytes) {
    FrozenBlocks* const blocks = device_.captures().at(slot_);
    if (blocks == nullptr) continue;
    cursor_bytes_ = blocks->save(cursor_bytes_, request_.end_bytes(), *this);
    if (cursor_bytes_ < request_.end_bytes()) return false;
  }
  return true;
}

}  // namespace tidemark
