#include "layers/scratch_files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "common/parent_directory.h"
#include "device/file_device.h"
#include "layers/file_io.h"
#include "layers/scratch_index.h"

namespace tidemark {

namespace {

// The lock is on the data file, which is there first and is never replaced.
Result<UniqueFd> open_locked(const std::string& path, const std::string& what) {
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0600));
  if (!fd.is_open()) return Status::from_errno(what, errno);
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) == 0) return fd;
  if (errno != EWOULDBLOCK) return Status::from_errno(what, errno);
  return Status{ErrorCode::kInUse,
                what + ": because another device has it open. Close that one first.", EBUSY};
}

Result<std::shared_ptr<BlockDevice>> open_file(const std::string& path) {
  FileDeviceParameters parameters;
  parameters.path = path;
  return open_file_device(parameters);
}

}  // namespace

std::string scratch_index_path(const std::string& path) { return path + ".index"; }
std::string frozen_index_path(const std::string& path) { return path + ".frozen"; }

Status create_index(const std::string& path, const ScratchIdentity& identity,
                    const std::string& what) {
  const std::string draft = path + ".new";
  const UniqueFd fd(::open(draft.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!fd.is_open()) return Status::from_errno(what, errno);
  const uint64_t file_bytes = ScratchGeometry::of(identity).file_bytes();
  if (::ftruncate(fd.get(), static_cast<off_t>(file_bytes)) != 0) {
    return Status::from_errno(what, errno);
  }
  auto device = open_file(draft);
  if (!device.is_ok()) return device.status();
  if (Status status = ScratchIndex::format(*device.value(), identity, what); !status.is_ok()) {
    return status;
  }
  if (::rename(draft.c_str(), path.c_str()) != 0) return Status::from_errno(what, errno);
  return sync_parent_directory(path, what);
}

namespace {

// Data without an index: what a crash left before the index was there, and then
// it holds nothing; or the index was lost.
Status create_files(int data_fd, const std::string& path, const ScratchIdentity& identity,
                    const std::string& what) {
  struct stat info;
  if (::fstat(data_fd, &info) != 0) return Status::from_errno(what, errno);
  if (!S_ISREG(info.st_mode)) {
    return {ErrorCode::kUnsupported, what + ": because it is not a regular file. Name another."};
  }
  if (info.st_blocks != 0) {
    return {ErrorCode::kCorrupt, what + ": because the file has data but " + path +
                                     ".index is missing. Restore the index, or remove the file."};
  }
  if (::ftruncate(data_fd, static_cast<off_t>(identity.size_bytes)) != 0) {
    return Status::from_errno(what, errno);
  }
  if (Status status = sync_data(data_fd, what); !status.is_ok()) return status;
  return create_index(scratch_index_path(path), identity, what);
}

// A descriptor of its own: a copy of the lock's would keep the lock.
Result<std::shared_ptr<BlockDevice>> open_data(const std::string& path, const std::string& what,
                                               std::shared_ptr<ScratchBudget> budget) {
  auto data = open_file(path);
  if (!data.is_ok() || budget == nullptr) return data;
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.is_open()) return Status::from_errno(what, errno);
  return make_budgeted_device(std::move(data).value(), std::move(fd), std::move(budget));
}

Result<OpenScratch> open_locked_scratch(OpenScratch open, const std::string& index_path,
                                        const std::string& what,
                                        std::shared_ptr<ScratchBudget> budget) {
  auto data = open_data(open.path, what, std::move(budget));
  if (!data.is_ok()) return data.status();
  auto index = open_file(index_path);
  if (!index.is_ok()) return index.status();
  auto header = ScratchIndex::read_header(*index.value(), what);
  if (!header.is_ok()) return header.status();
  open.uuid = header.value().scratch;
  auto scratch = Scratch::open(std::move(data).value(), std::move(index).value(), open.identity,
                               what, LiveStates::path_beside(scratch_index_path(open.path)));
  if (!scratch.is_ok()) return scratch.status();
  open.scratch = std::move(scratch).value();
  return open;
}

}  // namespace

Result<OpenScratch> open_scratch_files(const std::string& path, const ScratchIdentity& identity,
                                       std::shared_ptr<ScratchBudget> budget) {
  const std::string what = "Cannot open scratch " + path;
  const std::string index_path = scratch_index_path(path);
  OpenScratch open{path, identity, {}, nullptr, UniqueFd()};
  const bool has_index = ::access(index_path.c_str(), F_OK) == 0;
  if (has_index && ::access(path.c_str(), F_OK) != 0) {
    return Status{ErrorCode::kNotFound,
                  what + ": because only its index is there. Restore the file, or remove " +
                      index_path + "."};
  }
  auto lock = open_locked(path, what);
  if (!lock.is_ok()) return lock.status();
  open.lock = std::move(lock).value();
  // Asked again: another process may have made it before the lock was ours.
  if (!has_index && ::access(index_path.c_str(), F_OK) != 0) {
    if (::access(frozen_index_path(path).c_str(), F_OK) == 0) {
      return Status{ErrorCode::kInUse, what + ": because its fold has just begun. Open it again."};
    }
    if (Status status = create_files(open.lock.get(), path, identity, what); !status.is_ok()) {
      return status;
    }
  }
  return open_locked_scratch(std::move(open), index_path, what, std::move(budget));
}

Result<OpenScratch> open_frozen_scratch(const std::string& path, const ScratchIdentity& identity) {
  const std::string what = "Cannot open scratch " + path;
  if (::access(path.c_str(), F_OK) != 0) {
    return Status{ErrorCode::kNotFound,
                  what + ": because only its index is there. Restore the file."};
  }
  auto lock = open_locked(path, what);
  if (!lock.is_ok()) return lock.status();
  return open_locked_scratch({path, identity, {}, nullptr, std::move(lock).value()},
                             frozen_index_path(path), what, nullptr);
}

}  // namespace tidemark
