// ScratchBudget: how much room some scratches may take together, and what of their
// file system they have to leave to others. What would exceed it fails with ENOSPC.
//
// Representation: an upper bound of what is taken, counted up by each write, and the
// bound at which the files and their file system are looked at again; what they say
// becomes the bound. Workload: a count for each write to a scratch; a look, which asks
// the kernel and touches no disk, every 16 MiB, and for each write once it is full.
// Any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "common/fd.h"
#include "common/mutex.h"
#include "device/block_device.h"

namespace tidemark {

class ScratchBudget {
 public:
  ScratchBudget(uint64_t limit_bytes, uint64_t floor_bytes)
      : limit_bytes_(limit_bytes), floor_bytes_(floor_bytes) {}

  // How often a write was refused.
  uint64_t refused_count() const noexcept { return refused_count_.load(std::memory_order_relaxed); }

 private:
  friend class BudgetedDevice;
  void add_file(int fd) EXCLUDES(mutex_);
  void remove_file(int fd) EXCLUDES(mutex_);
  // False: there is no room. What was taken is settled when its write has ended.
  bool take(uint64_t length_bytes) noexcept EXCLUDES(mutex_);
  void settle(uint64_t length_bytes) noexcept;
  void refuse() noexcept { refused_count_.fetch_add(1, std::memory_order_relaxed); }
  struct Usage {
    uint64_t taken_bytes = 0;
    uint64_t free_bytes = UINT64_MAX;
  };
  bool look() noexcept EXCLUDES(mutex_);
  Usage usage() const noexcept REQUIRES(mutex_);

  const uint64_t limit_bytes_;
  const uint64_t floor_bytes_;
  std::atomic<uint64_t> pending_bytes_{0};  // of writes under way
  std::atomic<uint64_t> bound_bytes_{0};
  std::atomic<uint64_t> look_at_bytes_{0};
  std::atomic<uint64_t> refused_count_{0};
  Mutex mutex_;
  std::vector<int> files_ GUARDED_BY(mutex_);
};

// `data` within the budget. `fd` is of the same file. Writes over what the file has
// already need no room and are never refused.
std::shared_ptr<BlockDevice> make_budgeted_device(std::shared_ptr<BlockDevice> data, UniqueFd fd,
                                                  std::shared_ptr<ScratchBudget> budget);

}  // namespace tidemark
