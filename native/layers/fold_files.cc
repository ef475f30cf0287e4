#include "layers/fold_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "common/failpoint.h"
#include "common/parent_directory.h"
#include "device/file_device.h"
#include "layers/scratch_index.h"

namespace tidemark {

namespace {

std::string marks_path(const std::string& scratch_path) { return scratch_path + ".marks"; }

bool exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

// A fold that has begun may have given it the disk's size.
Status check_size(uint64_t has_bytes, const ScratchIdentity& identity, bool has_begun,
                  const std::string& what) {
  if (has_bytes == identity.base_size_bytes) return Status::ok();
  if (has_begun && has_bytes == identity.size_bytes) return Status::ok();
  return {ErrorCode::kForeign, what + ": because its base has " + std::to_string(has_bytes) +
                                   " bytes, and is not the one of before. Name the right one."};
}

// What is there and holds anything is no file for this disk.
Status create_base(const std::string& path, uint64_t size_bytes, const std::string& what) {
  const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0600));
  struct stat info {};
  if (!fd.is_open() || ::fstat(fd.get(), &info) != 0) return Status::from_errno(what, errno);
  if (!S_ISREG(info.st_mode) || info.st_blocks != 0) {
    return {ErrorCode::kAlreadyExists, what + ": because the disk has no base, and " + path +
                                           " holds something. Remove it, or name a new file."};
  }
  if (::ftruncate(fd.get(), static_cast<off_t>(size_bytes)) != 0 || ::fsync(fd.get()) != 0) {
    return Status::from_errno(what, errno);
  }
  return sync_parent_directory(path, what);
}

// QEMU's locks: nobody else may fold into it, or run from it.
Result<std::shared_ptr<BlockDevice>> open_base(const std::string& path, uint64_t size_bytes,
                                               const std::string& what) {
  auto base = open_file_device({.path = path, .lock = ImageLockMode::kExclusive});
  if (!base.is_ok()) return base;
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return Status::from_errno(what, errno);
  if (S_ISBLK(info.st_mode) && base.value()->size_bytes() < size_bytes) {
    return Status{ErrorCode::kUnsupported,
                  what + ": because block device " + path + " is smaller than the disk. Grow it."};
  }
  return base;
}

// Empty marks, then the name that says that there is no going back.
Status publish_marks(const OpenScratch& scratch, const std::string& what) {
  ScratchIdentity identity = scratch.identity;
  identity.folded_scratch = scratch.uuid;
  Status status = create_index(marks_path(scratch.path), identity, what);
  if (status.is_ok()) failpoint("fold.marks_made");
  return status;
}

Status freeze_index(const std::string& scratch_path, const std::string& what) {
  const std::string index_path = scratch_index_path(scratch_path);
  const std::string frozen_path = frozen_index_path(scratch_path);
  if (exists(index_path) && ::rename(index_path.c_str(), frozen_path.c_str()) != 0) {
    return Status::from_errno(what, errno);
  }
  Status status = sync_parent_directory(frozen_path, what);
  if (status.is_ok()) failpoint("fold.frozen");
  return status;
}

Result<std::unique_ptr<Scratch>> open_marks(const OpenScratch& scratch,
                                            std::shared_ptr<BlockDevice> base,
                                            const std::string& what) {
  ScratchIdentity identity = scratch.identity;
  identity.folded_scratch = scratch.uuid;
  if (base->size_bytes() < identity.size_bytes) {
    if (Status status = base->resize(identity.size_bytes); !status.is_ok()) return status;
  }
  auto marks = open_file_device({.path = marks_path(scratch.path)});
  if (!marks.is_ok()) return marks.status();
  return Scratch::open(std::move(base), std::move(marks).value(), identity, what,
                       LiveStates::path_beside(marks_path(scratch.path)));
}

Result<ScratchHeader> read_marks_header(const std::string& scratch_path, const std::string& what) {
  if (!exists(marks_path(scratch_path))) {
    return Status{ErrorCode::kCorrupt,
                  what + ": because its fold has begun, and " + marks_path(scratch_path) +
                      " is missing. Restore that file: only it says which blocks are where."};
  }
  auto marks = open_file_device({.path = marks_path(scratch_path), .read_only = true});
  if (!marks.is_ok()) return marks.status();
  return ScratchIndex::read_header(*marks.value(), what);
}

}  // namespace

bool has_fold_begun(const std::string& scratch_path) {
  return exists(marks_path(scratch_path)) || exists(frozen_index_path(scratch_path));
}

Result<FoldFiles> open_fold_files(const std::string& scratch_path, ScratchIdentity identity,
                                  const std::string& base_path) {
  const std::string what = "Cannot go on with the fold of " + scratch_path;
  if (base_path.empty()) {
    return Status{ErrorCode::kForeign, what + ": because it was begun, and its base is not named."};
  }
  auto header = read_marks_header(scratch_path, what);
  if (!header.is_ok()) return header.status();
  if (Status status = freeze_index(scratch_path, what); !status.is_ok()) return status;
  identity.base_size_bytes = header.value().identity.base_size_bytes;
  FoldFiles fold;
  auto scratch = open_frozen_scratch(scratch_path, identity);
  if (!scratch.is_ok()) return scratch.status();
  fold.scratch = std::move(scratch).value();
  auto base = open_base(base_path, identity.size_bytes, what);
  if (!base.is_ok()) return base.status();
  fold.base_device = base.value();
  if (Status status = check_size(fold.base_device->size_bytes(), identity, true, what);
      !status.is_ok()) {
    return status;
  }
  auto marks = open_marks(fold.scratch, fold.base_device, what);
  if (!marks.is_ok()) return marks.status();
  fold.base = std::move(marks).value();
  return fold;
}

Result<std::unique_ptr<Scratch>> begin_fold_files(const OpenScratch& scratch,
                                                  const std::string& base_path, bool had_base) {
  const std::string what = "Cannot begin the fold of " + scratch.path;
  const ScratchIdentity& identity = scratch.identity;
  if (!had_base) {
    Status status = create_base(base_path, identity.size_bytes, what);
    if (!status.is_ok()) return status;
  }
  auto base = open_base(base_path, identity.size_bytes, what);
  if (!base.is_ok()) return base.status();
  if (Status status =
          check_size(base.value()->size_bytes(), identity, has_fold_begun(scratch.path), what);
      !status.is_ok()) {
    return status;
  }
  if (Status status = publish_marks(scratch, what); !status.is_ok()) return status;
  if (Status status = freeze_index(scratch.path, what); !status.is_ok()) return status;
  return open_marks(scratch, std::move(base).value(), what);
}

}  // namespace tidemark
