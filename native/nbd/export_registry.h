// ExportRegistry: which exports there are, and who uses them. Any thread.
#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/mutex.h"
#include "common/status.h"
#include "nbd/nbd_server.h"

namespace tidemark::nbd {

// An export and the number of connections in transmission on it.
class ServedExport {
 public:
  explicit ServedExport(NbdExport entry) : entry_(std::move(entry)) {}

  const NbdExport& entry() const noexcept { return entry_; }
  BlockDevice& device() const noexcept { return *entry_.device; }
  bool is_read_only() const noexcept {
    return entry_.read_only || entry_.device->traits().read_only;
  }
  uint32_t user_count();
  void wait_until_unused();

 private:
  friend class ExportLease;
  void enter();
  void leave();

  const NbdExport entry_;
  Mutex mutex_;
  std::condition_variable unused_;
  uint32_t user_count_ GUARDED_BY(mutex_) = 0;
};

// One connection's use of an export.
class ExportLease {
 public:
  ExportLease() = default;
  explicit ExportLease(std::shared_ptr<ServedExport> served) : served_(std::move(served)) {
    served_->enter();
  }
  ExportLease(ExportLease&& other) noexcept : served_(std::move(other.served_)) {}
  ExportLease& operator=(ExportLease&& other) noexcept {
    std::swap(served_, other.served_);
    return *this;
  }
  ~ExportLease() {
    if (served_ != nullptr) served_->leave();
  }

  const ServedExport* get() const noexcept { return served_.get(); }
  const ServedExport* operator->() const noexcept { return served_.get(); }

 private:
  std::shared_ptr<ServedExport> served_;
};

class ExportRegistry {
 public:
  Status add(NbdExport entry);
  // The export that was removed; null when there is none of that name. It can
  // be leased no more.
  std::shared_ptr<ServedExport> remove(const std::string& name);

  std::shared_ptr<ServedExport> find(std::string_view name) const;  // null: unknown
  bool lease(std::string_view name, ExportLease& into) const;       // false: unknown
  std::vector<std::shared_ptr<ServedExport>> list() const;          // by name

 private:
  using Map = std::map<std::string, std::shared_ptr<ServedExport>, std::less<>>;

  mutable Mutex mutex_;
  Map exports_ GUARDED_BY(mutex_);
};

}  // namespace tidemark::nbd
