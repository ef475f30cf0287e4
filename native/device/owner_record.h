// OwnerRecord: who may write to an image that several hosts see (docs/shared-storage.md).
//
// Representation: a small file beside the image. Its first sector, under a checksum, names
// the owner and its lease; a page of it is mapped: the epoch, which is the fencing token, and
// counts of the writes that are under way. Owning means that the epoch is still one's own.
//
// Taking over raises the epoch. A former owner
//  - of this machine sees it with its next write: who enters counts itself first and reads
//    the epoch then; who takes over raises the epoch first and reads the counts then. So
//    either the writer sees the new epoch, or it is counted, and the taker waits until it
//    has ended. A process that was stopped with a write under way has to go on or to end.
//  - of another machine (a mapping is not coherent between machines) reads the record again
//    each third of the lease, and writes only while the last reading that showed its own
//    epoch began less than a lease ago. The taker waits for that to pass.
//
// A byte of the file, one for each epoch, is locked while its owner lives: an orderly
// claim is refused (kInUse) as long as it is, and of two that claim at once one gets it.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "common/fd.h"
#include "common/mapped_file.h"
#include "common/status.h"
#include "common/uuid.h"

namespace tidemark {

class OwnerRecord {
 public:
  struct Claim {
    std::string path;
    bool by_force = false;  // though the owner may live
    std::chrono::milliseconds lease{10'000};
    std::chrono::milliseconds drain_limit{5'000};  // for its writes under way, with force
  };

  // Blocks; with force for up to the former owner's lease, if it is another machine's. From
  // an error with kTimedOut on the former owner cannot write either: call it again.
  static Result<std::unique_ptr<OwnerRecord>> claim(const Claim& claim);

  uint64_t epoch() const noexcept { return epoch_; }
  std::chrono::milliseconds lease() const noexcept { return lease_; }

  // Around each write, on any thread. False: fenced, and not counted.
  bool enter(uint32_t& shard) noexcept;
  void leave(uint32_t shard) noexcept;
  // Somebody has taken over, as far as this machine knows.
  bool is_fenced() const noexcept {
    return shared_->epoch.load(std::memory_order_acquire) != epoch_;
  }
  // Reads the record where everybody sees it. False: it names another owner. Blocks.
  Result<bool> is_still_ours() const;

 private:
  static constexpr uint32_t kShards = 16;
  struct alignas(64) Count {
    std::atomic<uint64_t> writes;
  };
  // In the mapping: the machine's processes share it.
  struct Shared {
    alignas(64) std::atomic<uint64_t> epoch;
    std::array<Count, kShards> counts;
  };
  struct Facts;

  OwnerRecord() = default;
  Status open(const std::string& path);
  Status take(const Claim& claim);
  Status wait_for_former(const Claim& claim, const Facts& former, bool is_owned);
  Status write_facts(bool is_settled);
  bool has_writes() const noexcept;
  void forget_writes() noexcept;

  std::string path_;
  UniqueFd fd_;
  MappedFile mapping_;
  Shared* shared_ = nullptr;
  uint64_t epoch_ = 0;
  Uuid holder_;
  std::chrono::milliseconds lease_{0};
};

}  // namespace tidemark
