// FencedDevice: passes writes to its backing only while an OwnerRecord says that we own it.
//
// A write counts itself in the record and reads the epoch: two operations on a cache line
// of its thread's own, and a clock that needs no system call. Fenced, every request but a
// flush is answered with EIO, for ever. When the lease could not be renewed in time (the
// process was stopped, the storage is away) writes wait in a list, not on a thread, until
// the record was read again: ours, and they go on; another's, and they fail.
//
// Over the backing, under the tracker: the tracker's marks of a write that was refused
// say too much, never too little.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <thread>

#include "common/mutex.h"
#include "device/block_device.h"
#include "device/owner_record.h"
#include "device/shrinkable_device.h"

namespace tidemark {

struct OwnershipStatus {
  uint64_t epoch = 0;
  bool is_fenced = false;
};

class FencedDevice final : public BlockDevice, public ShrinkableDevice {
 public:
  FencedDevice(std::shared_ptr<BlockDevice> backing, std::unique_ptr<OwnerRecord> record);
  ~FencedDevice() override;

  uint64_t size_bytes() const noexcept override { return backing_->size_bytes(); }
  const DeviceTraits& traits() const noexcept override { return backing_->traits(); }
  void submit(IoRequest& request) noexcept override;
  Status resize(uint64_t size_bytes) override;
  Status shrink(uint64_t size_bytes) override;
  Status lock_image(ImageLockMode mode) override { return backing_->lock_image(mode); }
  std::vector<std::string> extent_contexts() const override { return backing_->extent_contexts(); }
  std::string resolve_context(std::string_view name) const override {
    return backing_->resolve_context(name);
  }
  Status query_extents(std::string_view context, uint64_t offset_bytes, uint64_t length_bytes,
                       size_t max_extents, std::vector<DeviceExtent>& extents) override {
    return backing_->query_extents(context, offset_bytes, length_bytes, max_extents, extents);
  }
  uint64_t loss_count() const noexcept override { return backing_->loss_count(); }
  Result<BackingFacts> facts() const override { return backing_->facts(); }
  void give_up() noexcept override;

  OwnershipStatus ownership() const noexcept;

 private:
  void submit_write(IoRequest& request) noexcept;
  bool park(IoRequest& request) noexcept;
  bool lease_holds() const noexcept;
  Status as_owner(const std::function<Status()>& change);
  void run() noexcept;
  void renew() noexcept;
  void let_go(int error) noexcept;
  static void on_written(IoRequest& request, void* context, uint64_t shard, int error) noexcept;

  const std::shared_ptr<BlockDevice> backing_;
  const std::unique_ptr<OwnerRecord> record_;
  std::atomic<bool> is_fenced_{false};
  std::atomic<int64_t> lease_until_ns_;

  Mutex mutex_;
  std::condition_variable changed_;
  bool is_ending_ GUARDED_BY(mutex_) = false;
  bool is_given_up_ GUARDED_BY(mutex_) = false;
  IoRequest* first_parked_ GUARDED_BY(mutex_) = nullptr;
  IoRequest** last_parked_ GUARDED_BY(mutex_) = &first_parked_;
  std::thread thread_;  // uses all of the above
};

}  // namespace tidemark
