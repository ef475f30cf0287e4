#include "tracking/frozen_blocks.h"

namespace tidemark {

Result<std::shared_ptr<FrozenBlocks>> FrozenBlocks::create(std::shared_ptr<BlockDevice> backing,
                                                           const DirtyBitmap& bitmap, uint32_t slot,
                                                           const CaptureLimits& limits,
                                                           CaptureScope scope) {
  auto states = BlockStates::create(bitmap.block_count());
  if (!states.is_ok()) return states.status();
  auto store = CaptureStore::create(limits, bitmap.granularity_bytes());
  if (!store.is_ok()) return store.status();
  return std::shared_ptr<FrozenBlocks>(new FrozenBlocks(std::move(backing), bitmap, slot, scope,
                                                        std::move(states).value(),
                                                        std::move(store).value()));
}

FrozenBlocks::FrozenBlocks(std::shared_ptr<BlockDevice> backing, const DirtyBitmap& bitmap,
                           uint32_t slot, CaptureScope scope, std::unique_ptr<BlockStates> states,
                           std::unique_ptr<CaptureStore> store)
    : backing_(std::move(backing)),
      blocks_(bitmap, slot, scope == CaptureScope::kWholeDisk),
      disk_size_bytes_(bitmap.disk_size_bytes()),
      block_bytes_(bitmap.granularity_bytes()),
      states_(std::move(states)),
      store_(std::move(store)) {}

std::string FrozenBlocks::broken_reason() const {
  const MutexLock lock(reason_mutex_);
  return broken_reason_;
}

void FrozenBlocks::break_capture(const std::string& reason) noexcept {
  const MutexLock lock(reason_mutex_);
  if (is_over()) return;
  broken_reason_ = reason;
  is_broken_.store(true);
}

void FrozenBlocks::close() noexcept {
  if (is_closed_.exchange(true)) return;
  store_->close();
  for (Shard& shard : shards_) {
    std::unordered_map<uint64_t, SavedBlock> dropped;
    {
      const MutexLock lock(shard.mutex);
      dropped.swap(shard.saved);
    }
    for (const auto& [block_index, block] : dropped) store_->give_back(block);
  }
  // Who still looks at the states asks first whether the capture is over.
  states_->drop();
}

}  // namespace tidemark
