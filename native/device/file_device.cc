#include "device/file_device.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>

#include "common/fd.h"
#include "device/file_geometry.h"
#include "device/file_growth.h"
#include "device/file_ranges.h"
#include "device/io_engine.h"
#include "device/shrinkable_device.h"

namespace tidemark {

namespace {

constexpr uint64_t kBounceBytes = 1024 * 1024;
constexpr size_t kBounceAlignment = 4096;
// Copying more than this keeps a submitter from its other requests too long.
constexpr uint64_t kInlineLimitBytes = 256 * 1024;

struct FreeMemory {
  void operator()(std::byte* memory) const noexcept { std::free(memory); }
};
using BounceBuffer = std::unique_ptr<std::byte, FreeMemory>;

// A request on its way through an engine; deletes itself when it is over.
struct FileTask : IoTask {
  IoRequest* request = nullptr;
  IoEngine* engine = nullptr;
  FileRange range;           // of a trim or write-zeroes
  BounceBuffer bounce;       // in place of an unaligned buffer
  uint64_t done_bytes = 0;   // of a bounced transfer
  uint64_t piece_bytes = 0;  // what is on its way in the bounce buffer
};

void finish(FileTask* task, int error) noexcept {
  IoRequest* request = task->request;
  delete task;
  request->complete(error);
}

void finish_task(IoTask& task, int error) noexcept { finish(static_cast<FileTask*>(&task), error); }

void start_bounced_piece(FileTask& task) noexcept {
  const IoRequest& request = *task.request;
  task.piece_bytes = std::min(kBounceBytes, request.length_bytes - task.done_bytes);
  task.offset_bytes = request.offset_bytes + task.done_bytes;
  task.remaining_bytes = task.piece_bytes;
  task.data = task.bounce.get();
  if (request.op == IoOp::kWrite) {
    std::memcpy(task.data, request.data + task.done_bytes, task.piece_bytes);
  }
  task.engine->submit(task);
}

void finish_bounced_piece(IoTask& done, int error) noexcept {
  auto& task = static_cast<FileTask&>(done);
  const IoRequest& request = *task.request;
  if (error != 0) return finish(&task, error);
  if (request.op == IoOp::kRead) {
    std::memcpy(request.data + task.done_bytes, task.bounce.get(), task.piece_bytes);
  }
  task.done_bytes += task.piece_bytes;
  if (task.done_bytes == request.length_bytes) return finish(&task, 0);
  start_bounced_piece(task);
}

int sync_data(int fd) noexcept {
  while (::fdatasync(fd) != 0) {
    if (errno != EINTR) return errno;
  }
  return 0;
}

int run_flush(IoTask& task) noexcept { return sync_data(task.fd); }

int run_read(IoTask& task) noexcept {
  task.kind = IoTask::Kind::kRead;
  return run_io_task(task);
}

// Durable where the task's flags say so.
int run_write(IoTask& task) noexcept {
  task.kind = IoTask::Kind::kWrite;
  return run_io_task(task);
}

int run_range(IoTask& blocking) noexcept {
  const auto& task = static_cast<FileTask&>(blocking);
  const IoRequest& request = *task.request;
  const int error = request.op == IoOp::kTrim ? trim_file_range(task.range)
                                              : zero_file_range(task.range, request.flags);
  if (error != 0 || (request.flags & kIoFua) == 0) return error;
  return sync_data(task.fd);
}

int run_cache(IoTask& blocking) noexcept {
  cache_file_range(static_cast<FileTask&>(blocking).range);
  return 0;
}

class FileDevice final : public BlockDevice, public ShrinkableDevice {
 public:
  FileDevice(const FileDeviceParameters& parameters, UniqueFd fd, const FileGeometry& geometry);

  uint64_t size_bytes() const noexcept override {
    return size_bytes_.load(std::memory_order_acquire);
  }
  Status resize(uint64_t size_bytes) override;
  Status shrink(uint64_t size_bytes) override;
  Status lock_image(ImageLockMode mode) override;
  Result<BackingFacts> facts() const override { return probe_backing_facts(fd_.get()); }
  const DeviceTraits& traits() const noexcept override { return traits_; }
  void submit(IoRequest& request) noexcept override;
  Status query_extents(std::string_view context, uint64_t offset_bytes, uint64_t length_bytes,
                       size_t max_extents, std::vector<DeviceExtent>& extents) override;

 private:
  void read(IoRequest& request) noexcept;
  void write(IoRequest& request) noexcept;
  void transfer_in_engine(IoRequest& request, uint64_t moved_bytes) noexcept;
  void call_in_engine(IoRequest& request, int (*call)(IoTask&) noexcept) noexcept;
  bool needs_bounce(const IoRequest& request) const noexcept;
  FileTask* make_task(IoRequest& request) noexcept;

  const std::string path_;
  const UniqueFd fd_;
  const FileGeometry geometry_;  // as of the opening
  std::atomic<uint64_t> size_bytes_;
  ImageLockMode lock_;
  const bool direct_;
  const std::shared_ptr<IoEngine> engine_;
  DeviceTraits traits_;
  // Some file systems cannot say whether a read would wait; learnt from the first.
  std::atomic<bool> can_try_read_{true};
};

FileDevice::FileDevice(const FileDeviceParameters& parameters, UniqueFd fd,
                       const FileGeometry& geometry)
    : path_(parameters.path),
      fd_(std::move(fd)),
      geometry_(geometry),
      size_bytes_(geometry.size_bytes),
      lock_(parameters.lock),
      direct_(parameters.direct),
      engine_(acquire_io_engine(parameters.engine)) {
  traits_.minimum_block_bytes = direct_ ? geometry.logical_block_bytes : 1;
  traits_.preferred_block_bytes =
      std::max(geometry.preferred_block_bytes, traits_.minimum_block_bytes);
  traits_.read_only = parameters.read_only;
  traits_.rotational = geometry.rotational;
  traits_.trim_reads_zero = !geometry.is_block_device;
  traits_.fast_zero = geometry.fast_zero;
  traits_.can_cache = !direct_;
  traits_.cheap_extents = has_cheap_allocation(fd_.get());
  traits_.engine = engine_->name();
}

// Nothing here touches the device after a request has been completed or handed to
// the engine: its owner may have destroyed it by then.
void FileDevice::submit(IoRequest& request) noexcept {
  if (request.end_bytes() > size_bytes()) return request.complete(EINVAL);  // it was cut
  if (traits_.read_only && request.is_write_class()) return request.complete(EROFS);
  switch (request.op) {
    case IoOp::kRead:
      return read(request);
    case IoOp::kWrite:
      return write(request);
    case IoOp::kFlush:
      return call_in_engine(request, run_flush);
    case IoOp::kTrim:
    case IoOp::kWriteZeroes:
      return call_in_engine(request, run_range);
    case IoOp::kCache:
      return direct_ ? request.complete(0) : call_in_engine(request, run_cache);
  }
}

void FileDevice::read(IoRequest& request) noexcept {
  if (direct_ || !can_try_read_.load(std::memory_order_relaxed)) {
    return transfer_in_engine(request, 0);
  }
  if (request.length_bytes > kInlineLimitBytes) return call_in_engine(request, run_read);
  const iovec vector{request.data, request.length_bytes};
  const ssize_t result =
      ::preadv2(fd_.get(), &vector, 1, static_cast<off_t>(request.offset_bytes), RWF_NOWAIT);
  const uint64_t moved_bytes = result > 0 ? static_cast<uint64_t>(result) : 0;
  if (moved_bytes == request.length_bytes) return request.complete(0);
  if (result < 0 && errno == EOPNOTSUPP) can_try_read_.store(false, std::memory_order_relaxed);
  transfer_in_engine(request, moved_bytes);
}

void FileDevice::write(IoRequest& request) noexcept {
  if (direct_) return transfer_in_engine(request, 0);
  // A durable one waits for the disk; a ring would pass it to a thread of the kernel's.
  if ((request.flags & kIoFua) != 0 || request.length_bytes > kInlineLimitBytes) {
    return call_in_engine(request, run_write);
  }
  IoTask task;
  task.kind = IoTask::Kind::kWrite;
  task.fd = fd_.get();
  task.offset_bytes = request.offset_bytes;
  task.remaining_bytes = request.length_bytes;
  task.data = request.data;
  request.complete(run_io_task(task));
}

FileTask* FileDevice::make_task(IoRequest& request) noexcept {
  auto* task = new (std::nothrow) FileTask;
  if (task == nullptr) return nullptr;
  task->fd = fd_.get();
  task->request = &request;
  task->engine = engine_.get();
  task->offset_bytes = request.offset_bytes;
  task->remaining_bytes = request.length_bytes;
  task->data = request.data;
  task->rw_flags = request.op == IoOp::kWrite && (request.flags & kIoFua) != 0 ? RWF_DSYNC : 0;
  task->done = finish_task;
  return task;
}

bool FileDevice::needs_bounce(const IoRequest& request) const noexcept {
  const auto address = reinterpret_cast<uintptr_t>(request.data);
  return direct_ && address % geometry_.memory_alignment_bytes != 0;
}

void FileDevice::transfer_in_engine(IoRequest& request, uint64_t moved_bytes) noexcept {
  FileTask* task = make_task(request);
  if (task == nullptr) return request.complete(ENOMEM);
  task->kind = request.op == IoOp::kRead ? IoTask::Kind::kRead : IoTask::Kind::kWrite;
  if (needs_bounce(request)) {
    const uint64_t bytes = std::min(kBounceBytes, request.length_bytes);
    const uint64_t rounded = (bytes + kBounceAlignment - 1) / kBounceAlignment * kBounceAlignment;
    task->bounce.reset(static_cast<std::byte*>(std::aligned_alloc(kBounceAlignment, rounded)));
    if (task->bounce == nullptr) return finish(task, ENOMEM);
    task->done = finish_bounced_piece;
    return start_bounced_piece(*task);
  }
  task->offset_bytes += moved_bytes;
  task->remaining_bytes -= moved_bytes;
  task->data += moved_bytes;
  task->engine->submit(*task);
}

void FileDevice::call_in_engine(IoRequest& request, int (*call)(IoTask&) noexcept) noexcept {
  FileTask* task = make_task(request);
  if (task == nullptr) return request.complete(ENOMEM);
  task->kind = IoTask::Kind::kBlockingCall;
  task->call = call;
  task->range = {fd_.get(), geometry_.is_block_device, geometry_.logical_block_bytes,
                 request.offset_bytes, request.length_bytes};
  task->engine->submit(*task);
}

Status FileDevice::resize(uint64_t size_bytes) {
  Status status = grow_file({.fd = fd_.get(),
                             .is_block_device = geometry_.is_block_device,
                             .read_only = traits_.read_only,
                             .block_bytes = traits_.minimum_block_bytes,
                             .present_bytes = size_bytes_.load(),
                             .wanted_bytes = size_bytes,
                             .path = path_});
  if (status.is_ok()) size_bytes_.store(size_bytes, std::memory_order_release);
  return status;
}

// The size first: nothing past it is passed on from then on.
Status FileDevice::shrink(uint64_t size_bytes) {
  const uint64_t present_bytes = size_bytes_.load();
  if (size_bytes == 0 || size_bytes >= present_bytes ||
      size_bytes % traits_.minimum_block_bytes != 0) {
    return {ErrorCode::kInvalidArgument, "Cannot shrink " + path_ + " to " +
                                             std::to_string(size_bytes) +
                                             " bytes: because it cannot have that size."};
  }
  size_bytes_.store(size_bytes, std::memory_order_release);
  if (geometry_.is_block_device) return Status::ok();  // its administrator cuts it
  if (::ftruncate(fd_.get(), static_cast<off_t>(size_bytes)) == 0 && ::fsync(fd_.get()) == 0) {
    return Status::ok();
  }
  const int error = errno;
  size_bytes_.store(present_bytes, std::memory_order_release);
  return Status::from_errno("Cannot shrink " + path_, error);
}

Status FileDevice::lock_image(ImageLockMode mode) {
  Status status = tidemark::lock_image(fd_.get(), mode, traits_.read_only, path_);
  if (status.is_ok()) {
    lock_ = mode;
  } else if (lock_ == ImageLockMode::kShared) {
    (void)tidemark::lock_image(fd_.get(), lock_, traits_.read_only, path_);
  }
  return status;
}

Status FileDevice::query_extents(std::string_view context, uint64_t offset_bytes,
                                 uint64_t length_bytes, size_t max_extents,
                                 std::vector<DeviceExtent>& extents) {
  if (context != "base:allocation" || geometry_.is_block_device) {
    return BlockDevice::query_extents(context, offset_bytes, length_bytes, max_extents, extents);
  }
  query_file_allocation(fd_.get(), offset_bytes, length_bytes, max_extents, extents);
  return Status::ok();
}

Result<UniqueFd> open_backing(const FileDeviceParameters& parameters) {
  const std::string what = "Cannot open " + parameters.path;
  struct stat status {};
  if (::stat(parameters.path.c_str(), &status) != 0) return Status::from_errno(what, errno);
  // Before open(), which waits for the other end of a pipe.
  if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode)) {
    return Status{ErrorCode::kUnsupported, what +
                                               ": because it is neither a regular file nor a "
                                               "block device. Name one of these."};
  }
  const int flags =
      O_CLOEXEC | (parameters.read_only ? O_RDONLY : O_RDWR) | (parameters.direct ? O_DIRECT : 0);
  UniqueFd fd(::open(parameters.path.c_str(), flags));
  if (fd.is_open()) return fd;
  if (parameters.direct && errno == EINVAL) {
    return Status{ErrorCode::kUnsupported, what +
                                               " directly: because its file system has no "
                                               "direct I/O. Open it without."};
  }
  return Status::from_errno(what, errno);
}

}  // namespace

Result<std::shared_ptr<BlockDevice>> open_file_device(const FileDeviceParameters& parameters) {
  Result<UniqueFd> fd = open_backing(parameters);
  if (!fd.is_ok()) return fd.status();
  if (parameters.lock != ImageLockMode::kNone) {  // a new description has none
    Status locked =
        lock_image(fd.value().get(), parameters.lock, parameters.read_only, parameters.path);
    if (!locked.is_ok()) return locked;
  }
  const Result<FileGeometry> geometry =
      probe_file_geometry(fd.value().get(), parameters.direct, parameters.path);
  if (!geometry.is_ok()) return geometry.status();
  return std::shared_ptr<BlockDevice>(
      std::make_shared<FileDevice>(parameters, std::move(fd).value(), geometry.value()));
}

}  // namespace tidemark
