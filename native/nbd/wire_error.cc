#include "nbd/wire_error.h"

#include <cerrno>

namespace tidemark::nbd {

WireError wire_error(int device_errno, bool is_fast_zero) noexcept {
  switch (device_errno) {
    case 0:
      return WireError::kNone;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return WireError::kNoSpace;
    case EPERM:
    case EACCES:
    case EROFS:
      return WireError::kPerm;
    case ENOTSUP:
      return is_fast_zero ? WireError::kNotSupported : WireError::kIo;
    case ESHUTDOWN:
      return WireError::kShutdown;
    default:
      return WireError::kIo;
  }
}

}  // namespace tidemark::nbd
