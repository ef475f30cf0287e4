// FrozenCapture: a capture with copy-before-write, the reader's handle on
// FrozenBlocks.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tracking/frozen_blocks.h"
#include "tracking/slot_capture.h"

namespace tidemark {

class FrozenCapture final : public SlotCapture {
 public:
  FrozenCapture(std::shared_ptr<TrackedDevice> device, uint32_t slot,
                std::shared_ptr<FrozenBlocks> frozen);
  ~FrozenCapture() override { close(); }

  Status query_allocation(uint64_t offset_bytes, uint64_t length_bytes, size_t max_extents,
                          std::vector<DeviceExtent>& extents) override;
  void release(uint64_t offset_bytes, uint64_t length_bytes) noexcept override;
  bool is_broken() const noexcept override { return frozen_->is_broken(); }
  std::string broken_reason() const override { return frozen_->broken_reason(); }
  uint64_t saved_bytes() const noexcept override { return frozen_->saved_bytes(); }

  std::vector<std::shared_ptr<FrozenBlocks>> publish() override;

  // What the store holds in memory right now.
  uint64_t memory_used_bytes() const noexcept { return frozen_->memory_used_bytes(); }

 private:
  void append_as_frozen(uint64_t offset_bytes, DeviceExtent extent, size_t end_count,
                        std::vector<DeviceExtent>& extents) const;
  Status read_inside(uint64_t offset_bytes, std::span<std::byte> into) override;
  void settle() noexcept override { frozen_->blocks().on_merged(); }
  void end() noexcept override { frozen_->close(); }

  const std::shared_ptr<FrozenBlocks> frozen_;
};

}  // namespace tidemark
