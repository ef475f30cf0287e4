#include "fuse/disk_file.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace tidemark::fuse {

namespace {

constexpr size_t kSlotCount = 32;
constexpr size_t kSlotBytes = 1024 * 1024;  // the kernel's largest request
constexpr double kForever = 1e9;

DiskFile& file_of(fuse_req_t request) {
  return *static_cast<DiskFile*>(::fuse_req_userdata(request));
}

void on_init(void*, fuse_conn_info* connection) {
  connection->max_write = kSlotBytes;
  connection->max_read = kSlotBytes;
  connection->max_background = kSlotCount;
}

void on_getattr(fuse_req_t request, fuse_ino_t, fuse_file_info*) {
  const struct stat attributes = file_of(request).attributes();
  ::fuse_reply_attr(request, &attributes, kForever);
}

void on_open(fuse_req_t request, fuse_ino_t, fuse_file_info* file) {
  file->direct_io = 1;
  file->keep_cache = 0;
  ::fuse_reply_open(request, file);
}

void on_read(fuse_req_t request, fuse_ino_t, size_t size, off_t offset, fuse_file_info*) {
  file_of(request).read(request, size, offset);
}

void on_write(fuse_req_t request, fuse_ino_t, const char* from, size_t size, off_t offset,
              fuse_file_info*) {
  file_of(request).write(request, from, size, offset);
}

void on_fsync(fuse_req_t request, fuse_ino_t, int, fuse_file_info*) {
  file_of(request).flush(request);
}

void on_fallocate(fuse_req_t request, fuse_ino_t, int mode, off_t offset, off_t length,
                  fuse_file_info*) {
  file_of(request).allocate(request, mode, offset, length);
}

fuse_lowlevel_ops operations() {
  fuse_lowlevel_ops operations{};
  operations.init = on_init;
  operations.getattr = on_getattr;
  operations.open = on_open;
  operations.read = on_read;
  operations.write = on_write;
  operations.fsync = on_fsync;
  operations.fallocate = on_fallocate;
  return operations;
}

}  // namespace

DiskFile::DiskFile(BlockDevice& device) : device_(device), slots_(kSlotCount, kSlotBytes) {}

DiskFile::~DiskFile() {
  if (is_mounted_) ::fuse_session_unmount(session_.get());
  slots_.wait_until_all_are_free();
  if (session_ != nullptr) ::fuse_remove_signal_handlers(session_.get());
}

Result<std::unique_ptr<DiskFile>> DiskFile::mount(BlockDevice& device, const std::string& path) {
  std::unique_ptr<DiskFile> self(new DiskFile(device));
  const Status status = self->mount_at(path);
  if (!status.is_ok()) return status;
  return self;
}

Status DiskFile::mount_at(const std::string& path) {
  const fuse_lowlevel_ops known = operations();
  char program[] = "tidemark-fuse";
  char option_flag[] = "-o";
  char options[] = "fsname=tidemark,subtype=tidemark,max_read=1048576";
  char* argv[] = {program, option_flag, options, nullptr};
  fuse_args arguments = FUSE_ARGS_INIT(3, argv);
  session_.reset(::fuse_session_new(&arguments, &known, sizeof known, this));
  ::fuse_opt_free_args(&arguments);
  if (session_ == nullptr || ::fuse_set_signal_handlers(session_.get()) != 0) {
    return Status(ErrorCode::kIo, "Cannot make a FUSE session.");
  }
  if (::fuse_session_mount(session_.get(), path.c_str()) != 0) {
    return Status::from_errno("Cannot mount " + path, errno);
  }
  is_mounted_ = true;
  return Status::ok();
}

// As fuse_session_loop(), with a buffer that is kept.
int DiskFile::serve() {
  fuse_buf buffer{};
  int result = 0;
  while (::fuse_session_exited(session_.get()) == 0) {
    result = ::fuse_session_receive_buf(session_.get(), &buffer);
    if (result == -EINTR) continue;
    if (result <= 0) break;
    ::fuse_session_process_buf(session_.get(), &buffer);
  }
  std::free(buffer.mem);
  return result < 0 && result != -EINTR && result != -ENODEV ? -result : 0;
}

struct stat DiskFile::attributes() const {
  struct stat attributes {};
  attributes.st_ino = FUSE_ROOT_ID;
  attributes.st_mode = S_IFREG | 0600;
  attributes.st_nlink = 1;
  attributes.st_size = static_cast<off_t>(device_.size_bytes());
  attributes.st_blksize = 4096;
  attributes.st_blocks = attributes.st_size / 512;
  return attributes;
}

bool DiskFile::is_inside(off_t offset_bytes, size_t length_bytes) const noexcept {
  const auto offset = static_cast<uint64_t>(offset_bytes);
  return offset <= device_.size_bytes() && length_bytes <= device_.size_bytes() - offset;
}

RequestSlots::Slot& DiskFile::prepare(fuse_req_t request, IoOp op, off_t offset_bytes,
                                      size_t length_bytes) {
  RequestSlots::Slot& slot = slots_.take();
  slot.reply_to = request;
  slot.request = IoRequest();
  slot.request.op = op;
  slot.request.offset_bytes = static_cast<uint64_t>(offset_bytes);
  slot.request.length_bytes = length_bytes;
  return slot;
}

void DiskFile::submit(RequestSlots::Slot& slot) {
  slot.request.push(on_done, &slot);
  device_.submit(slot.request);
}

void DiskFile::read(fuse_req_t request, size_t size_bytes, off_t offset_bytes) {
  const uint64_t left_bytes =
      device_.size_bytes() - std::min(device_.size_bytes(), static_cast<uint64_t>(offset_bytes));
  const size_t length_bytes = std::min<uint64_t>({size_bytes, left_bytes, kSlotBytes});
  if (length_bytes == 0) {
    ::fuse_reply_buf(request, nullptr, 0);
    return;
  }
  RequestSlots::Slot& slot = prepare(request, IoOp::kRead, offset_bytes, length_bytes);
  slot.request.data = slot.buffer;
  submit(slot);
}

void DiskFile::write(fuse_req_t request, const char* from, size_t size_bytes, off_t offset_bytes) {
  if (size_bytes == 0 || size_bytes > kSlotBytes || !is_inside(offset_bytes, size_bytes)) {
    ::fuse_reply_err(request, size_bytes > kSlotBytes ? EINVAL : ENOSPC);
    return;
  }
  RequestSlots::Slot& slot = prepare(request, IoOp::kWrite, offset_bytes, size_bytes);
  std::memcpy(slot.buffer, from, size_bytes);
  slot.request.data = slot.buffer;
  submit(slot);
}

void DiskFile::flush(fuse_req_t request) { submit(prepare(request, IoOp::kFlush, 0, 0)); }

// A punched hole and a zeroed range both read as zeroes, which a trim does not
// promise; only the zeroed range must keep its room.
void DiskFile::allocate(fuse_req_t request, int mode, off_t offset_bytes, off_t length_bytes) {
  const bool is_zero_range = (mode & FALLOC_FL_ZERO_RANGE) != 0;
  if (!is_zero_range && (mode & FALLOC_FL_PUNCH_HOLE) == 0) {
    ::fuse_reply_err(request, EOPNOTSUPP);
    return;
  }
  const auto size_bytes = static_cast<size_t>(length_bytes);
  if (length_bytes <= 0 || !is_inside(offset_bytes, size_bytes)) {
    ::fuse_reply_err(request, EINVAL);
    return;
  }
  RequestSlots::Slot& slot = prepare(request, IoOp::kWriteZeroes, offset_bytes, size_bytes);
  if (is_zero_range) slot.request.flags = kIoNoHole;
  submit(slot);
}

// On any thread. A read's answer is copied out of the slot before that is free.
void DiskFile::on_done(IoRequest& request, void* context, uint64_t, int error) noexcept {
  auto& slot = *static_cast<RequestSlots::Slot*>(context);
  auto* reply_to = static_cast<fuse_req_t>(slot.reply_to);
  const size_t length_bytes = request.length_bytes;
  if (error != 0) {
    ::fuse_reply_err(reply_to, error);
  } else if (request.op == IoOp::kRead) {
    ::fuse_reply_buf(reply_to, reinterpret_cast<const char*>(slot.buffer), length_bytes);
  } else if (request.op == IoOp::kWrite) {
    ::fuse_reply_write(reply_to, length_bytes);
  } else {
    ::fuse_reply_err(reply_to, 0);
  }
  slot.home->give_back(slot);
}

}  // namespace tidemark::fuse
