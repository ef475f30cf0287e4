// LiveReader: a Capture that freezes nothing. It lists the blocks that were
// dirty at the cut and reads them as they are when asked: for passes whose
// result is not a recovery point, because a later capture sends again whatever
// changed since.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tracking/frozen_blocks.h"
#include "tracking/slot_capture.h"

namespace tidemark {

class LiveReader final : public SlotCapture {
 public:
  LiveReader(std::shared_ptr<TrackedDevice> device, uint32_t slot)
      : SlotCapture(std::move(device), slot) {}
  ~LiveReader() override { close(); }

  void release(uint64_t /*offset_bytes*/, uint64_t /*length_bytes*/) noexcept override {}
  bool is_broken() const noexcept override { return false; }
  std::string broken_reason() const override { return {}; }
  uint64_t saved_bytes() const noexcept override { return 0; }

  std::vector<std::shared_ptr<FrozenBlocks>> publish() override { return {}; }

 private:
  Status read_inside(uint64_t offset_bytes, std::span<std::byte> into) override;
};

}  // namespace tidemark
