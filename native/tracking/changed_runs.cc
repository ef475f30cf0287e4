#include "tracking/changed_runs.h"

#include <algorithm>

namespace tidemark {

namespace {

// Joins the blocks in a row that are not known.
void append_runs(const ChangedRun& whole, const std::vector<bool>& are_known, uint64_t block_bytes,
                 std::vector<ChangedRun>& runs) {
  bool goes_on = false;
  for (size_t i = 0; i < are_known.size(); ++i) {
    const uint64_t done_bytes = i * block_bytes;
    const uint64_t length_bytes = std::min(block_bytes, whole.length_bytes - done_bytes);
    if (!are_known[i] && goes_on) {
      runs.back().length_bytes += length_bytes;
    } else if (!are_known[i]) {
      runs.push_back(
          {whole.position_bytes + done_bytes, whole.offset_bytes + done_bytes, length_bytes});
    }
    goes_on = !are_known[i];
  }
}

}  // namespace

Result<std::vector<ChangedRun>> read_changed_runs(Capture& capture, ContentFilter* filter,
                                                  std::span<const ByteExtent> extents,
                                                  std::span<std::byte> into, uint64_t gap_bytes) {
  std::vector<ChangedRun> runs;
  uint64_t position_bytes = 0;
  for (const ByteExtent& extent : extents) {
    position_bytes += gap_bytes;
    const ChangedRun whole{position_bytes, extent.offset_bytes, extent.length_bytes};
    const auto place = into.subspan(position_bytes, extent.length_bytes);
    if (Status status = capture.read(extent.offset_bytes, place); !status.is_ok()) return status;
    if (filter == nullptr) {
      runs.push_back(whole);
    } else {
      auto are_known = filter->known_blocks(extent.offset_bytes, place);
      if (!are_known.is_ok()) return are_known.status();
      append_runs(whole, are_known.value(), filter->granularity_bytes(), runs);
    }
    position_bytes += extent.length_bytes;
  }
  return runs;
}

}  // namespace tidemark
