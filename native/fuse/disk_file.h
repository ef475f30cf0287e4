// DiskFile: a BlockDevice as the one file of a FUSE file system.
//
// The mount point is itself a file, and the file system's root is that file. One
// thread takes the kernel's requests and submits them; the device's threads
// answer. Nothing here waits for the device, but for a free slot.
#pragma once

#include <fuse_lowlevel.h>

#include <memory>
#include <string>

#include "common/status.h"
#include "device/block_device.h"
#include "fuse/request_slots.h"

namespace tidemark::fuse {

class DiskFile {
 public:
  // Mounted when it returns.
  static Result<std::unique_ptr<DiskFile>> mount(BlockDevice& device, const std::string& path);
  ~DiskFile();  // unmounts; no request is under way any more

  // Serves until SIGTERM, SIGINT or the unmount. 0 or an errno.
  int serve();

  // The kernel's requests, on the serving thread.
  void read(fuse_req_t request, size_t size_bytes, off_t offset_bytes);
  void write(fuse_req_t request, const char* from, size_t size_bytes, off_t offset_bytes);
  void flush(fuse_req_t request);
  void allocate(fuse_req_t request, int mode, off_t offset_bytes, off_t length_bytes);
  struct stat attributes() const;

 private:
  struct SessionDeleter {
    void operator()(fuse_session* session) const { ::fuse_session_destroy(session); }
  };

  explicit DiskFile(BlockDevice& device);
  Status mount_at(const std::string& path);
  RequestSlots::Slot& prepare(fuse_req_t request, IoOp op, off_t offset_bytes, size_t length_bytes);
  void submit(RequestSlots::Slot& slot);
  bool is_inside(off_t offset_bytes, size_t length_bytes) const noexcept;
  static void on_done(IoRequest& request, void* context, uint64_t word, int error) noexcept;

  BlockDevice& device_;
  RequestSlots slots_;
  std::unique_ptr<fuse_session, SessionDeleter> session_;
  bool is_mounted_ = false;
};

}  // namespace tidemark::fuse
