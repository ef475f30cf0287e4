#include "device/image_lock.h"

#include <fcntl.h>

#include <cerrno>

namespace tidemark {

namespace {

// QEMU's permissions, by the number of their bit.
enum Permission : uint32_t { kConsistentRead, kWrite, kWriteUnchanged, kResize, kPermissionCount };

constexpr const char* kNames[kPermissionCount] = {"consistent read", "write", "write unchanged",
                                                  "resize"};
constexpr off_t kUsedAt = 100;
constexpr off_t kForbiddenAt = 200;

constexpr uint32_t bit(Permission permission) { return 1U << permission; }

struct Claim {
  uint32_t used = 0;
  uint32_t forbidden = 0;  // to others
};

Claim claim_of(ImageLockMode mode, bool read_only) noexcept {
  Claim claim;
  if (mode == ImageLockMode::kNone) return claim;
  claim.used = bit(kConsistentRead);
  if (!read_only) claim.used |= bit(kWrite) | bit(kWriteUnchanged) | bit(kResize);
  if (mode == ImageLockMode::kExclusive) claim.forbidden = bit(kWrite) | bit(kResize);
  return claim;
}

struct flock one_byte(off_t offset, short type) noexcept {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = offset;
  lock.l_len = 1;
  return lock;
}

// Locks the bytes of the set, unlocks the others; 0 or an errno.
int take(int fd, off_t base, uint32_t set) noexcept {
  for (uint32_t n = 0; n < kPermissionCount; ++n) {
    const bool is_set = (set >> n & 1) != 0;
    struct flock lock = one_byte(base + n, is_set ? F_RDLCK : F_UNLCK);
    if (::fcntl(fd, F_OFD_SETLK, &lock) != 0) return errno;
  }
  return 0;
}

int take_all(int fd, const Claim& claim) noexcept {
  const int error = take(fd, kUsedAt, claim.used);
  return error != 0 ? error : take(fd, kForbiddenAt, claim.forbidden);
}

// The first byte of the set that another description has locked; -1 for none.
int first_held(int fd, off_t base, uint32_t set) noexcept {
  for (uint32_t n = 0; n < kPermissionCount; ++n) {
    if ((set >> n & 1) == 0) continue;
    struct flock lock = one_byte(base + n, F_WRLCK);
    if (::fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK) return static_cast<int>(n);
  }
  return -1;
}

Status in_use(const std::string& path, const std::string& reason) {
  return {ErrorCode::kInUse,
          "Cannot open " + path + ": because " + reason +
              ". Stop the VM or the tool that has the image open, or let the VM reach it "
              "through Tidemark.",
          EBUSY};
}

Status check(int fd, const Claim& claim, const std::string& path) {
  if (const int n = first_held(fd, kForbiddenAt, claim.used); n >= 0) {
    return in_use(path, std::string("another process, such as QEMU, forbids the permission '") +
                            kNames[n] + "' to others");
  }
  if (const int n = first_held(fd, kUsedAt, claim.forbidden); n >= 0) {
    return in_use(path, std::string("another process, such as QEMU, has it open with the "
                                    "permission '") +
                            kNames[n] + "'");
  }
  return Status::ok();
}

}  // namespace

Status lock_image(int fd, ImageLockMode mode, bool read_only, const std::string& path) {
  const Claim claim = claim_of(mode, read_only);
  if (const int error = take_all(fd, claim); error != 0) {
    (void)take_all(fd, {});
    if (mode == ImageLockMode::kNone) return Status::ok();
    const std::string what = "Cannot lock " + path + " as QEMU does (lock \"none\" does without)";
    return Status::from_errno(what, error);
  }
  if (mode != ImageLockMode::kExclusive) return Status::ok();
  Status status = check(fd, claim, path);
  if (!status.is_ok()) (void)take_all(fd, {});
  return status;
}

}  // namespace tidemark
