#include "tracking/content_filter.h"

#include <algorithm>

namespace tidemark {

namespace {

// 64 MiB of hashes. A larger capture is not learned: what is known then begins anew.
constexpr uint64_t kMostStagedBlocks = 4 << 20;

std::vector<BlockHash> hash_blocks_of(std::span<const std::byte> content, uint64_t block_bytes,
                                      const HashSalt& salt) {
  BlockHasher hasher(salt);
  std::vector<BlockHash> hashes;
  hashes.reserve((content.size() + block_bytes - 1) / block_bytes);
  for (; !content.empty(); content = content.subspan(std::min(block_bytes, content.size()))) {
    hashes.push_back(hasher.hash(content.first(std::min(block_bytes, content.size()))));
  }
  return hashes;
}

}  // namespace

ContentFilter::ContentFilter(std::shared_ptr<KnownContent> known, uint64_t dirty_bytes)
    : known_(std::move(known)),
      dirty_blocks_((dirty_bytes + granularity_bytes() - 1) / granularity_bytes()),
      is_any_known_(!known_->point().is_nil()) {}

Result<std::vector<bool>> ContentFilter::known_blocks(uint64_t offset_bytes,
                                                      std::span<const std::byte> content) {
  const uint64_t first_block = offset_bytes / granularity_bytes();
  auto hashes = hash_blocks_of(content, granularity_bytes(), known_->salt());
  std::vector<bool> are_known(hashes.size());
  if (is_any_known_) {
    std::vector<BlockHash> before(hashes.size());
    // What cannot be read is not known, and travels.
    const bool is_read = known_->read(first_block, before).is_ok();
    for (size_t i = 0; i < hashes.size(); ++i) {
      are_known[i] = is_read && before[i] == hashes[i] && hashes[i] != kUnknownHash;
    }
  }
  if (stage(first_block, std::move(hashes))) return are_known;
  return Status(ErrorCode::kClosed, "Cannot read the changes: because they have ended.");
}

bool ContentFilter::stage(uint64_t first_block, std::vector<BlockHash> hashes) {
  const MutexLock lock(mutex_);
  if (has_ended_) return false;
  if (dirty_blocks_ > kMostStagedBlocks) return true;
  std::vector<BlockHash>& place = staged_[first_block];
  staged_blocks_ += hashes.size() - place.size();
  place = std::move(hashes);
  return true;
}

bool ContentFilter::end(BlockHashRuns& staged) {
  const MutexLock lock(mutex_);
  const bool is_whole = !has_ended_ && staged_blocks_ == dirty_blocks_;
  has_ended_ = true;
  staged = std::move(staged_);
  staged_.clear();
  return is_whole;
}

Status ContentFilter::settle(const Uuid& point) {
  BlockHashRuns staged;
  return end(staged) ? known_->advance(point, staged) : known_->clear();
}

void ContentFilter::drop() {
  BlockHashRuns staged;
  end(staged);
}

}  // namespace tidemark
