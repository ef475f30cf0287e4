// BitmapStorage in memory: a page cache over a disk, a directory over its journal,
// one process and one boot. A crash is a copy: after_process_crash() and
// after_power_loss() answer the storage that the next process finds, and the one
// they are asked of goes on as if nothing had happened. So one run of a workload
// can be crashed at every step.
//
// Every operation is a step: `on_step` sees it before it happens and decides
// whether it works, fails, or pretends (answers success and does nothing: what
// removing the call from the code would do). Names change in the order of a
// journal: a power loss leaves any prefix of what was not synced.
#pragma once

#include <cassert>
#include <cerrno>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bitmap/bitmap_storage.h"
#include "simulated_page_cache.h"

namespace tidemark::simulation {

enum class StorageOp : uint8_t {
  kCreate,
  kPublish,
  kOpen,
  kSetSize,
  kAllocate,
  kRelease,
  kRead,
  kWrite,
  kMap,
  kRenew,
  kSync,
  kSyncAll,
  kRename,
  kRemove,
  kSyncDirectory,
};

struct StorageStep {
  StorageOp op;
  std::string path;
  uint64_t offset_bytes = 0;
  uint64_t length_bytes = 0;
};

enum class StepVerdict : uint8_t { kWorks, kFails, kPretends };

class SimulatedStorage final : public BitmapStorage {
 public:
  using OnStep = std::function<StepVerdict(const StorageStep&)>;

  explicit SimulatedStorage(uint64_t boot = 1) : boot_(boot) {}

  OnStep on_step;
  // From the second page to here nobody stores through the mapping: a bitmap does not
  // before its maps. What is not looked at costs nothing.
  uint64_t only_written_until = 0;
  // A word that the clock decides about reads as zero, so that a seed reproduces a
  // run; 0: none.
  uint64_t timeless_word_at = 0;
  bool can_crash = true;  // false: contents are not remembered, which is quicker
  int failure_errno = EIO;
  // After a sync that failed the pages count as clean: what some kernels do.
  bool failed_syncs_drop = false;
  // And once their process has ended it gives them up for what the disk holds.
  bool gives_dropped_up = false;

  Result<std::unique_ptr<File>> create(const std::string& path) override;
  Status publish(File& file) override;
  Result<std::unique_ptr<File>> open(const std::string& path) override;
  Status rename(const std::string& from, const std::string& to) override;
  void remove(const std::string& path) noexcept override;
  Status sync_directory(const std::string& path) override;
  Uuid boot() const override {
    Uuid boot;
    for (size_t i = 0; i < 8; ++i) boot.bytes[i] = static_cast<uint8_t>(boot_ >> (8 * i));
    boot.bytes[15] = 1;  // never nil
    return boot;
  }

  uint64_t boot_number() const { return boot_; }
  // As if the machine that lost its cache had said it was the same boot: what a
  // bitmap then trusts is what it made durable itself.
  void set_boot_number(uint64_t boot) { boot_ = boot; }

  bool exists(const std::string& path) const { return names_.count(path) != 0; }
  size_t name_count() const { return names_.size(); }

  // Looks at all mappings, as at the beginning of every step.
  void observe() {
    for (const auto& [name, inode] : names_) {
      SimulatedPages& pages = inode->pages;
      const bool has_word = pages.size_bytes() >= timeless_word_at + kWordBytes;
      if (timeless_word_at != 0 && has_word) {
        std::memset(pages.data() + timeless_word_at, 0, kWordBytes);
      }
      pages.observe();
    }
  }
  // For an exhaustive choice of what a power loss leaves of each.
  size_t unsynced_page_count() const {
    size_t count = 0;
    for (const auto& [name, inode] : names_) count += inode->pages.unsynced_page_count();
    return count;
  }

  // Equal for two storages of which the same may be left. Without the first page of
  // a file (what counts up there would make all differ), but for the live index.
  std::string state_key() const {
    std::string key;
    for (const auto& [name, inode] : names_) key += name + ':' + inode->pages.state_key() + ';';
    return key + std::to_string(journal_.size());
  }

  std::unique_ptr<SimulatedStorage> after_process_crash() const;
  // Under Loss::kSubset page n of all unsynced ones keeps its newest content where
  // bit n mod 63 of `subset` is set; names are kept where bit 63 is.
  std::unique_ptr<SimulatedStorage> after_power_loss(Loss loss, uint64_t subset,
                                                     Random& random) const;

 private:
  struct Inode {
    SimulatedPages pages;
    bool is_locked = false;
  };
  using InodePtr = std::shared_ptr<Inode>;
  using Names = std::map<std::string, InodePtr>;
  class OpenFile;

  Status step(StorageOp op, const std::string& path, bool& pretends, uint64_t offset_bytes = 0,
              uint64_t length_bytes = 0);
  void change_names(const std::function<void(Names&)>& change) {
    change(names_);
    journal_.push_back(names_);
  }

  uint64_t boot_;
  Names names_;
  Names durable_names_;
  std::vector<Names> journal_;  // the directory after each change since it was synced
};

class SimulatedStorage::OpenFile final : public BitmapStorage::File {
 public:
  OpenFile(SimulatedStorage& storage, std::string path, InodePtr inode)
      : storage_(storage), path_(std::move(path)), inode_(std::move(inode)) {
    inode_->is_locked = true;
  }
  ~OpenFile() override { unlock(); }

  const std::string& path() const { return path_; }
  const InodePtr& inode() const { return inode_; }

  Result<uint64_t> size_bytes() const override { return inode_->pages.size_bytes(); }
  Status set_size(uint64_t size_bytes) override {
    assert(!is_mapped_);
    bool pretends = false;
    Status status = storage_.step(StorageOp::kSetSize, path_, pretends, 0, size_bytes);
    if (status.is_ok() && !pretends) inode_->pages.set_size(size_bytes);
    return status;
  }
  Status allocate(uint64_t offset_bytes, uint64_t length_bytes) override {
    bool pretends = false;
    Status status =
        storage_.step(StorageOp::kAllocate, path_, pretends, offset_bytes, length_bytes);
    if (!status.is_ok() || pretends) return status;
    const uint64_t end_bytes = offset_bytes + length_bytes;
    if (end_bytes > inode_->pages.size_bytes()) inode_->pages.set_size(end_bytes);
    use(offset_bytes, length_bytes);
    return status;
  }
  Status release(uint64_t offset_bytes, uint64_t length_bytes) override {
    bool pretends = false;
    Status status = storage_.step(StorageOp::kRelease, path_, pretends, offset_bytes, length_bytes);
    if (status.is_ok() && !pretends) inode_->pages.zero(offset_bytes, length_bytes);
    return status;
  }
  Result<size_t> read(uint64_t offset_bytes, std::span<std::byte> into) const override {
    bool pretends = false;
    Status status = storage_.step(StorageOp::kRead, path_, pretends, offset_bytes, into.size());
    if (!status.is_ok()) return status;
    const uint64_t size_bytes = inode_->pages.size_bytes();
    const uint64_t length =
        offset_bytes < size_bytes ? std::min<uint64_t>(into.size(), size_bytes - offset_bytes) : 0;
    if (length > 0) std::memcpy(into.data(), inode_->pages.data() + offset_bytes, length);
    return static_cast<size_t>(length);
  }
  Status write(uint64_t offset_bytes, std::span<const std::byte> from) override {
    bool pretends = false;
    Status status = storage_.step(StorageOp::kWrite, path_, pretends, offset_bytes, from.size());
    if (!status.is_ok() || pretends) return status;
    const uint64_t end_bytes = offset_bytes + from.size();
    if (end_bytes > inode_->pages.size_bytes()) inode_->pages.set_size(end_bytes);
    inode_->pages.write(offset_bytes, from);
    return status;
  }
  Status map() override {
    bool pretends = false;
    Status status = storage_.step(StorageOp::kMap, path_, pretends);
    if (status.is_ok()) is_mapped_ = true;
    return status;
  }
  std::byte* data() const noexcept override { return inode_->pages.data(); }
  void renew(uint64_t offset_bytes, uint64_t length_bytes) noexcept override {
    bool pretends = false;
    (void)storage_.step(StorageOp::kRenew, path_, pretends, offset_bytes, length_bytes);
    if (!pretends) inode_->pages.renew(offset_bytes, length_bytes);
  }
  Status sync(uint64_t offset_bytes, uint64_t length_bytes) override {
    bool pretends = false;
    Status status = storage_.step(StorageOp::kSync, path_, pretends, offset_bytes, length_bytes);
    return sync_after(std::move(status), pretends, offset_bytes, length_bytes);
  }
  Status sync_all() override {
    bool pretends = false;
    Status status = storage_.step(StorageOp::kSyncAll, path_, pretends);
    return sync_after(std::move(status), pretends, 0, inode_->pages.size_bytes());
  }
  Status sync_log(uint64_t offset_bytes, uint64_t length_bytes) override {
    return sync(offset_bytes, length_bytes);
  }
  bool is_locked() const noexcept override { return has_lock_; }
  void unlock() noexcept override {
    if (has_lock_) inode_->is_locked = false;
    has_lock_ = false;
  }

 private:
  Status sync_after(Status status, bool pretends, uint64_t offset_bytes, uint64_t length_bytes) {
    if (!status.is_ok() && storage_.failed_syncs_drop) {
      inode_->pages.drop(offset_bytes, length_bytes);
    } else if (status.is_ok() && !pretends) {
      inode_->pages.sync(offset_bytes, length_bytes);
    }
    return status;
  }
  void use(uint64_t offset_bytes, uint64_t length_bytes) {
    if (offset_bytes == 0) inode_->pages.use(0, kPageBytes);
    const uint64_t begin_bytes = std::max(offset_bytes, storage_.only_written_until);
    const uint64_t end_bytes = offset_bytes + length_bytes;
    if (begin_bytes < end_bytes) inode_->pages.use(begin_bytes, end_bytes - begin_bytes);
  }

  SimulatedStorage& storage_;
  const std::string path_;
  const InodePtr inode_;
  bool is_mapped_ = false;
  bool has_lock_ = true;
};

inline Status SimulatedStorage::step(StorageOp op, const std::string& path, bool& pretends,
                                     uint64_t offset_bytes, uint64_t length_bytes) {
  if (can_crash) observe();
  if (!on_step) return Status::ok();
  const StepVerdict verdict = on_step({op, path, offset_bytes, length_bytes});
  pretends = verdict == StepVerdict::kPretends;
  if (verdict != StepVerdict::kFails) return Status::ok();
  return Status::from_errno("the simulated storage refuses", failure_errno);
}

inline Result<std::unique_ptr<BitmapStorage::File>> SimulatedStorage::create(
    const std::string& path) {
  if (exists(path)) return Status::from_errno("something bears its name", EEXIST);
  bool pretends = false;
  if (Status status = step(StorageOp::kCreate, path, pretends); !status.is_ok()) return status;
  return std::unique_ptr<File>(std::make_unique<OpenFile>(*this, path, std::make_shared<Inode>()));
}

inline Status SimulatedStorage::publish(File& file) {
  auto& created = static_cast<OpenFile&>(file);
  bool pretends = false;
  Status status = step(StorageOp::kPublish, created.path(), pretends);
  if (!status.is_ok() || pretends) return status;
  change_names([&](Names& names) { names[created.path()] = created.inode(); });
  return status;
}

inline Result<std::unique_ptr<BitmapStorage::File>> SimulatedStorage::open(
    const std::string& path) {
  bool pretends = false;
  if (Status status = step(StorageOp::kOpen, path, pretends); !status.is_ok()) return status;
  const auto found = names_.find(path);
  if (found == names_.end()) return Status::from_errno("it was not opened", ENOENT);
  if (found->second->is_locked) return Status::from_errno("it was not locked", EBUSY);
  return std::unique_ptr<File>(std::make_unique<OpenFile>(*this, path, found->second));
}

inline Status SimulatedStorage::rename(const std::string& from, const std::string& to) {
  bool pretends = false;
  if (Status status = step(StorageOp::kRename, from, pretends); !status.is_ok()) return status;
  if (!exists(from)) return Status::from_errno("it was not renamed", ENOENT);
  change_names([&](Names& names) {
    names[to] = names[from];
    names.erase(from);
  });
  return Status::ok();
}

inline void SimulatedStorage::remove(const std::string& path) noexcept {
  bool pretends = false;
  const Status status = step(StorageOp::kRemove, path, pretends);
  if (!status.is_ok() || pretends || !exists(path)) return;
  change_names([&](Names& names) { names.erase(path); });
}

inline Status SimulatedStorage::sync_directory(const std::string& path) {
  bool pretends = false;
  Status status = step(StorageOp::kSyncDirectory, path, pretends);
  if (!status.is_ok() || pretends) return status;
  durable_names_ = names_;
  journal_.clear();
  return status;
}

// Whatever a process wrote stays, and so does what is not durable yet.
inline std::unique_ptr<SimulatedStorage> SimulatedStorage::after_process_crash() const {
  auto after = std::make_unique<SimulatedStorage>(boot_);
  after->only_written_until = only_written_until;
  after->timeless_word_at = timeless_word_at;
  after->failed_syncs_drop = failed_syncs_drop;
  after->gives_dropped_up = gives_dropped_up;
  std::map<const Inode*, InodePtr> copies;
  const auto copy = [this, &copies](const Names& names) {
    Names copied;
    for (const auto& [name, inode] : names) {
      InodePtr& own = copies[inode.get()];
      if (own == nullptr) own = std::make_shared<Inode>(Inode{SimulatedPages(inode->pages), false});
      if (gives_dropped_up) own->pages.give_dropped_up();
      own->pages.observe();
      copied[name] = own;
    }
    return copied;
  };
  after->names_ = copy(names_);
  after->durable_names_ = copy(durable_names_);
  for (const Names& names : journal_) after->journal_.push_back(copy(names));
  return after;
}

inline std::unique_ptr<SimulatedStorage> SimulatedStorage::after_power_loss(Loss loss,
                                                                            uint64_t subset,
                                                                            Random& random) const {
  auto after = std::make_unique<SimulatedStorage>(boot_ + 1);
  after->only_written_until = only_written_until;
  after->timeless_word_at = timeless_word_at;
  after->failed_syncs_drop = failed_syncs_drop;
  after->gives_dropped_up = gives_dropped_up;
  const Names* names = &durable_names_;
  if (loss == Loss::kTorn && !journal_.empty()) {
    const size_t choice = random() % (journal_.size() + 1);
    if (choice > 0) names = &journal_[choice - 1];
  } else if (loss == Loss::kSubset && (subset >> 63) != 0) {
    names = &names_;
  }
  size_t page_base = 0;
  for (const auto& [name, inode] : *names) {
    const auto keep = [&](size_t n) { return ((subset >> ((page_base + n) % 63)) & 1) != 0; };
    inode->pages.observe();
    auto survivor =
        std::make_shared<Inode>(Inode{inode->pages.after_power_loss(loss, keep, random), false});
    page_base += inode->pages.unsynced_page_count();
    after->names_[name] = survivor;
  }
  after->durable_names_ = after->names_;
  return after;
}

}  // namespace tidemark::simulation
