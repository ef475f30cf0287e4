// KnownContent: what a target's newest point holds of a disk, a hash for each block that is
// known, in a sparse file (docs/formats/known-content.md).
//
// It is right for exactly one point, or for none: the header names none before an entry
// changes, and the next point after the last one has changed, so that a process that dies
// in between leaves a table of nothing. It counts for the kernel's boot that it was written
// in alone, which is why power loss needs no order among its writes.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/fd.h"
#include "common/status.h"
#include "common/uuid.h"
#include "tracking/block_hash.h"

namespace tidemark {

// What a table is of: of anything else it is foreign.
struct KnownDisk {
  Uuid disk;
  uint64_t size_bytes = 0;
  uint32_t granularity_bytes = 0;

  bool operator==(const KnownDisk&) const = default;
  uint64_t block_count() const noexcept {
    return (size_bytes + granularity_bytes - 1) / granularity_bytes;
  }
};

// Hashes of blocks in a row, by the first one's index.
using BlockHashRuns = std::map<uint64_t, std::vector<BlockHash>>;

// One thread at a time, but for read(), which any may call at any time. Blocks on the file.
class KnownContent {
 public:
  // What is there counts when it is whole, of this disk and of this boot; else it knows nothing.
  static Result<std::shared_ptr<KnownContent>> open(const std::string& path, const KnownDisk& disk);

  const KnownDisk& disk() const noexcept { return disk_; }
  const HashSalt& salt() const noexcept { return salt_; }
  // Nil: of none, and then no block is known.
  const Uuid& point() const noexcept { return point_; }

  // Unless point() is nil.
  Status read(uint64_t first_block, std::span<BlockHash> into) const;

  // The blocks of `changed` are these in `point`, the others as in the point before. After a
  // failure nothing is known.
  Status advance(const Uuid& point, const BlockHashRuns& changed);

  // Knows nothing, durably for this boot, and with another salt.
  Status clear();

 private:
  KnownContent(std::string path, UniqueFd fd, const KnownDisk& disk);

  bool load();
  Status write_header(const Uuid& point);
  Status write(uint64_t offset_bytes, std::span<const std::byte> from);
  Status replace(const Uuid& point, const BlockHashRuns& changed);

  const std::string path_;
  const UniqueFd fd_;
  const KnownDisk disk_;
  HashSalt salt_{};
  Uuid point_;
  bool is_torn_ = false;  // entries of two points, or what is in the file is not known
};

}  // namespace tidemark
