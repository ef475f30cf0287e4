#pragma once

#include <cstdint>

#include "device/io_request.h"
#include "layers/layer_stack.h"
#include "layers/scratch.h"

namespace tidemark {

// Every byte of the disk: the scratch, where there is one, over the stack.
class DiskContent {
 public:
  DiskContent(const LayerStack& below, Scratch* scratch) noexcept
      : below_(below), scratch_(scratch) {}

  const LayerStack& below() const noexcept { return below_; }

  // From `offset` on, at most `max_bytes` (> 0) long.
  SourceRun find(uint64_t offset_bytes, uint64_t max_bytes) const noexcept;

  // Completes the request when all of its bytes are there.
  void read(IoRequest& request) const noexcept;

 private:
  const LayerStack& below_;
  Scratch* const scratch_;
};

}  // namespace tidemark
