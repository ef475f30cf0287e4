#include "attach/loop_device.h"

#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "attach/device_claim.h"
#include "common/fd.h"

namespace tidemark::attach {

namespace {

constexpr int kFreeDeviceAttempts = 16;
constexpr std::chrono::milliseconds kSettlePause{20};
constexpr int kSettleAttempts = 500;
const std::string kWhat = "Cannot attach the disk as a loop device";

loop_config configuration_of(const std::string& file_path, int file_fd, uint32_t block_bytes) {
  loop_config config{};
  config.fd = static_cast<uint32_t>(file_fd);
  config.block_size = block_bytes;
  config.info.lo_flags = LO_FLAGS_DIRECT_IO;
  std::strncpy(reinterpret_cast<char*>(config.info.lo_file_name), file_path.c_str(),
               LO_NAME_SIZE - 1);
  return config;
}

bool is_direct(int device_fd) {
  loop_info64 info{};
  return ::ioctl(device_fd, LOOP_GET_STATUS64, &info) == 0 &&
         (info.lo_flags & LO_FLAGS_DIRECT_IO) != 0;
}

Status require_direct(int device_fd) {
  if (is_direct(device_fd)) return Status::ok();
  ::ioctl(device_fd, LOOP_CLR_FD, 0);
  return Status(ErrorCode::kUnsupported,
                kWhat + ": because this kernel gives it no direct I/O. Use Linux 5.10 or newer.");
}

// EBUSY: somebody was quicker with the free device.
Status configure(const std::string& device_path, const loop_config& config) {
  const UniqueFd device(::open(device_path.c_str(), O_RDWR | O_CLOEXEC));
  if (!device.is_open()) return Status::from_errno(kWhat, errno);
  if (::ioctl(device.get(), LOOP_CONFIGURE, &config) != 0) {
    return Status::from_errno(kWhat, errno);
  }
  return require_direct(device.get());
}

}  // namespace

Result<std::string> attach_loop_device(const std::string& file_path, uint32_t block_bytes) {
  const UniqueFd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
  if (!control.is_open()) {
    if (errno != ENOENT && errno != ENODEV) return Status::from_errno(kWhat, errno);
    return Status(
        ErrorCode::kUnsupported,
        kWhat + ": because the kernel's loop module is not loaded. Load it with: modprobe loop",
        errno);
  }
  const UniqueFd file(::open(file_path.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC));
  if (!file.is_open()) return Status::from_errno(kWhat + ": " + file_path, errno);
  // The loop device takes the file's size as the kernel knows it, which for a FUSE
  // file is 0 until somebody asks.
  struct stat file_status {};
  if (::fstat(file.get(), &file_status) != 0) return Status::from_errno(kWhat, errno);
  const loop_config config = configuration_of(file_path, file.get(), block_bytes);
  Status status;
  for (int i = 0; i < kFreeDeviceAttempts; ++i) {
    const int index = ::ioctl(control.get(), LOOP_CTL_GET_FREE);
    if (index < 0) return Status::from_errno(kWhat, errno);
    const std::string device_path = "/dev/loop" + std::to_string(index);
    status = configure(device_path, config);
    if (status.is_ok()) return device_path;
    if (status.sys_errno() != EBUSY) break;
  }
  return status;
}

Status drop_loop_device(const std::string& device_path, const std::string& file_path) {
  const UniqueFd device(::open(device_path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!device.is_open()) return Status::from_errno("Cannot detach " + device_path, errno);
  loop_info64 info{};
  if (::ioctl(device.get(), LOOP_GET_STATUS64, &info) != 0) return Status::ok();  // free already
  const std::string attached_to = reinterpret_cast<const char*>(info.lo_file_name);
  if (attached_to != file_path.substr(0, LO_NAME_SIZE - 1))
    return Status::ok();  // another's by now
  if (::ioctl(device.get(), LOOP_CLR_FD, 0) == 0) return Status::ok();
  return Status::from_errno("Cannot detach " + device_path, errno);
}

// The claim is let go of before the wait: the kernel takes the device down when
// the last one closes it.
Status detach_loop_device(const std::string& device_path) {
  auto claim = claim_and_flush(device_path);
  if (!claim.is_ok()) return claim.status();
  if (::ioctl(claim.value().get(), LOOP_CLR_FD, 0) != 0) {
    return Status::from_errno("Cannot detach " + device_path, errno);
  }
  claim.value().reset();
  const std::string name = device_path.substr(device_path.rfind('/') + 1);
  const std::string backing = "/sys/block/" + name + "/loop/backing_file";
  for (int i = 0; i < kSettleAttempts; ++i) {
    if (::access(backing.c_str(), F_OK) != 0) return Status::ok();
    std::this_thread::sleep_for(kSettlePause);
  }
  return Status(ErrorCode::kTimedOut,
                "Cannot detach " + device_path + ": because something keeps it open.");
}

}  // namespace tidemark::attach
