// ContentFilter: tells, while a capture is read, which blocks hold what the target's newest
// point holds, and remembers what they hash to until the capture is that target's next point.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "common/mutex.h"
#include "tracking/known_content.h"

namespace tidemark {

class ContentFilter {
 public:
  // `dirty_bytes`: of the capture.
  ContentFilter(std::shared_ptr<KnownContent> known, uint64_t dirty_bytes);

  // For each block of the range whether the target has it. Any thread; a range that is read
  // again has the same content. kClosed once it has ended.
  Result<std::vector<bool>> known_blocks(uint64_t offset_bytes, std::span<const std::byte> content);

  uint32_t granularity_bytes() const noexcept { return known_->disk().granularity_bytes; }

  // The target holds the capture as this point. When not all of it was read, and when it
  // fails, nothing is known any more.
  Status settle(const Uuid& point);

  // The target does not hold it: what was read teaches nothing.
  void drop();

 private:
  bool stage(uint64_t first_block, std::vector<BlockHash> hashes) EXCLUDES(mutex_);
  // Answers false when the hashes are not those of all its blocks.
  bool end(BlockHashRuns& staged) EXCLUDES(mutex_);

  const std::shared_ptr<KnownContent> known_;
  const uint64_t dirty_blocks_;
  const bool is_any_known_;
  Mutex mutex_;
  bool has_ended_ GUARDED_BY(mutex_) = false;
  uint64_t staged_blocks_ GUARDED_BY(mutex_) = 0;
  BlockHashRuns staged_ GUARDED_BY(mutex_);
};

}  // namespace tidemark
