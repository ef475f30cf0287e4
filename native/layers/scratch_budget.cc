#include "layers/scratch_budget.h"

#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>

#include "device/file_ranges.h"

namespace tidemark {

namespace {

constexpr uint64_t kLookAgainBytes = 16 << 20;
constexpr uint64_t kStatBlockBytes = 512;

uint64_t minus(uint64_t from, uint64_t bytes) noexcept { return from - std::min(from, bytes); }

}  // namespace

void ScratchBudget::add_file(int fd) {
  const MutexLock lock(mutex_);
  files_.push_back(fd);
}

void ScratchBudget::remove_file(int fd) {
  const MutexLock lock(mutex_);
  std::erase(files_, fd);
}

bool ScratchBudget::take(uint64_t length_bytes) noexcept {
  // Pending first: who looks meanwhile counts it at least once.
  pending_bytes_.fetch_add(length_bytes);
  const uint64_t bound_bytes = bound_bytes_.fetch_add(length_bytes) + length_bytes;
  if (bound_bytes <= look_at_bytes_.load(std::memory_order_relaxed) || look()) return true;
  settle(length_bytes);
  return false;
}

void ScratchBudget::settle(uint64_t length_bytes) noexcept {
  pending_bytes_.fetch_sub(length_bytes);
}

// What the kernel holds back for writes that it has not placed yet is in both numbers.
ScratchBudget::Usage ScratchBudget::usage() const noexcept {
  Usage usage;
  for (const int fd : files_) {
    struct stat file;
    struct statvfs system;
    if (::fstat(fd, &file) != 0 || ::fstatvfs(fd, &system) != 0) return {UINT64_MAX, 0};
    usage.taken_bytes += static_cast<uint64_t>(file.st_blocks) * kStatBlockBytes;
    usage.free_bytes = std::min<uint64_t>(usage.free_bytes, system.f_bavail * system.f_frsize);
  }
  return usage;
}

bool ScratchBudget::look() noexcept {
  const MutexLock lock(mutex_);
  const uint64_t before_bytes = bound_bytes_.load();
  const uint64_t pending_bytes = pending_bytes_.load();
  const Usage usage = this->usage();
  const uint64_t limit_room_bytes = minus(limit_bytes_, usage.taken_bytes);
  const uint64_t room_bytes = std::min(limit_room_bytes, minus(usage.free_bytes, floor_bytes_));
  if (room_bytes < pending_bytes) {
    look_at_bytes_.store(0, std::memory_order_relaxed);
    return false;
  }
  const uint64_t taken_bytes = usage.taken_bytes + pending_bytes;
  // Added, not stored: what others count meanwhile stays counted.
  bound_bytes_.fetch_add(taken_bytes - before_bytes);
  look_at_bytes_.store(taken_bytes + std::min(room_bytes - pending_bytes, kLookAgainBytes),
                       std::memory_order_relaxed);
  return true;
}

class BudgetedDevice final : public BlockDevice {
 public:
  BudgetedDevice(std::shared_ptr<BlockDevice> data, UniqueFd fd,
                 std::shared_ptr<ScratchBudget> budget)
      : data_(std::move(data)), fd_(std::move(fd)), budget_(std::move(budget)) {
    budget_->add_file(fd_.get());
  }
  ~BudgetedDevice() override { budget_->remove_file(fd_.get()); }
  BudgetedDevice(const BudgetedDevice&) = delete;
  BudgetedDevice& operator=(const BudgetedDevice&) = delete;

  uint64_t size_bytes() const noexcept override { return data_->size_bytes(); }
  const DeviceTraits& traits() const noexcept override { return data_->traits(); }
  Status query_extents(std::string_view context, uint64_t offset_bytes, uint64_t length_bytes,
                       size_t max_extents, std::vector<DeviceExtent>& extents) override {
    return data_->query_extents(context, offset_bytes, length_bytes, max_extents, extents);
  }
  void submit(IoRequest& request) noexcept override;

 private:
  bool is_there(const IoRequest& request) const noexcept;

  const std::shared_ptr<BlockDevice> data_;
  const UniqueFd fd_;
  const std::shared_ptr<ScratchBudget> budget_;
};

bool BudgetedDevice::is_there(const IoRequest& request) const noexcept {
  std::vector<DeviceExtent> extents;
  query_file_allocation(fd_.get(), request.offset_bytes, request.length_bytes, 1, extents);
  return !extents.empty() && (extents[0].flags & kExtentHole) == 0 &&
         extents[0].length_bytes >= request.length_bytes;
}

void BudgetedDevice::submit(IoRequest& request) noexcept {
  const bool needs_room = request.op == IoOp::kWrite ||
                          (request.op == IoOp::kWriteZeroes && (request.flags & kIoNoHole) != 0);
  if (!needs_room) return data_->submit(request);
  if (budget_->take(request.length_bytes)) {
    request.push(
        [](IoRequest& written, void* context, uint64_t length_bytes, int error) noexcept {
          static_cast<ScratchBudget*>(context)->settle(length_bytes);
          written.complete(error);
        },
        budget_.get(), request.length_bytes);
    return data_->submit(request);
  }
  if (is_there(request)) return data_->submit(request);
  budget_->refuse();
  request.complete(ENOSPC);
}

std::shared_ptr<BlockDevice> make_budgeted_device(std::shared_ptr<BlockDevice> data, UniqueFd fd,
                                                  std::shared_ptr<ScratchBudget> budget) {
  return std::make_shared<BudgetedDevice>(std::move(data), std::move(fd), std::move(budget));
}

}  // namespace tidemark
