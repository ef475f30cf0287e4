// What of a capture travels: its content, read into a buffer in runs.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "common/status.h"
#include "tracking/capture.h"
#include "tracking/content_filter.h"

namespace tidemark {

struct ChangedRun {
  uint64_t position_bytes;  // in the buffer
  uint64_t offset_bytes;    // on the disk
  uint64_t length_bytes;
};

// Reads the extents one after another, leaving `gap_bytes` (at most a block) free before each.
// What the filter knows is left out, so that before each run at least as much is free too.
// A null filter knows nothing.
Result<std::vector<ChangedRun>> read_changed_runs(Capture& capture, ContentFilter* filter,
                                                  std::span<const ByteExtent> extents,
                                                  std::span<std::byte> into, uint64_t gap_bytes);

}  // namespace tidemark
