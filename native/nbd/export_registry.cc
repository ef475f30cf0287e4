#include "nbd/export_registry.h"

#include <bit>
#include <limits>

#include "common/nbd_wire.h"
#include "nbd/protocol_string.h"

namespace tidemark::nbd {

namespace {

constexpr uint32_t kMaximumMinimumBlockBytes = 64 * 1024;

Status refused(const std::string& name, const std::string& because) {
  return Status(ErrorCode::kInvalidArgument,
                "Cannot add export '" + name.substr(0, 64) + "': because " + because);
}

Status check(const NbdExport& entry) {
  if (entry.device == nullptr) return refused(entry.name, "it has no device.");
  if (entry.name.size() > kMaximumStringBytes) {
    return refused(entry.name, "the name is longer than 4096 bytes. Use a shorter one.");
  }
  if (!is_protocol_string(entry.name) || !is_protocol_string(entry.description)) {
    return refused("", "its name or description is not UTF-8, or holds a NUL.");
  }
  if (entry.description.size() > kMaximumStringBytes) {
    return refused(entry.name, "the description is longer than 4096 bytes. Use a shorter one.");
  }
  const uint64_t size_bytes = entry.device->size_bytes();
  if (size_bytes > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    return refused(entry.name, "the disk is larger than 2^63 - 1 bytes.");
  }
  const uint32_t minimum_bytes = entry.device->traits().minimum_block_bytes;
  if (!std::has_single_bit(minimum_bytes) || minimum_bytes > kMaximumMinimumBlockBytes) {
    return refused(entry.name, "its minimum block size is no power of two up to 64 KiB.");
  }
  if (size_bytes % minimum_bytes != 0) {
    return refused(entry.name, "the disk's size is no multiple of its minimum block size.");
  }
  return Status::ok();
}

}  // namespace

void ServedExport::enter() {
  MutexLock lock(mutex_);
  ++user_count_;
}

void ServedExport::leave() {
  MutexLock lock(mutex_);
  if (--user_count_ == 0) unused_.notify_all();
}

uint32_t ServedExport::user_count() {
  MutexLock lock(mutex_);
  return user_count_;
}

void ServedExport::wait_until_unused() {
  MutexLock lock(mutex_);
  lock.wait(unused_, [this]() NO_THREAD_SAFETY_ANALYSIS { return user_count_ == 0; });
}

Status ExportRegistry::add(NbdExport entry) {
  if (Status status = check(entry); !status.is_ok()) return status;
  auto served = std::make_shared<ServedExport>(std::move(entry));
  const std::string& name = served->entry().name;
  MutexLock lock(mutex_);
  if (!exports_.try_emplace(name, served).second) {
    return Status(ErrorCode::kAlreadyExists, "Cannot add export '" + name.substr(0, 64) +
                                                 "': because there is one of that name. Remove it "
                                                 "first or choose another name.");
  }
  return Status::ok();
}

std::shared_ptr<ServedExport> ExportRegistry::remove(const std::string& name) {
  MutexLock lock(mutex_);
  auto node = exports_.extract(name);
  return node.empty() ? nullptr : std::move(node.mapped());
}

std::shared_ptr<ServedExport> ExportRegistry::find(std::string_view name) const {
  MutexLock lock(mutex_);
  const auto found = exports_.find(name);
  return found == exports_.end() ? nullptr : found->second;
}

bool ExportRegistry::lease(std::string_view name, ExportLease& into) const {
  MutexLock lock(mutex_);
  const auto found = exports_.find(name);
  if (found == exports_.end()) return false;
  into = ExportLease(found->second);
  return true;
}

std::vector<std::shared_ptr<ServedExport>> ExportRegistry::list() const {
  std::vector<std::shared_ptr<ServedExport>> all;
  MutexLock lock(mutex_);
  all.reserve(exports_.size());
  for (const auto& [name, served] : exports_) all.push_back(served);
  return all;
}

}  // namespace tidemark::nbd
