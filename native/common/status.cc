#include "common/status.h"

#include <cerrno>
#include <cstring>

namespace tidemark {

namespace {

constexpr const char* kDamaged = "What is stored there differs from its checksum";

ErrorCode code_of_errno(int sys_errno) {
  switch (sys_errno) {
    case EINVAL: return ErrorCode::kInvalidArgument;
    case ENOENT: return ErrorCode::kNotFound;
    case EEXIST: return ErrorCode::kAlreadyExists;
    case EBUSY:
    case EADDRINUSE: return ErrorCode::kInUse;
    case ENOSPC:
    case EDQUOT:
    case EFBIG: return ErrorCode::kNoSpace;
    case EROFS:
    case EPERM:
    case EACCES: return ErrorCode::kReadOnly;
    case EOPNOTSUPP:
    case ENOSYS: return ErrorCode::kUnsupported;
    case ETIMEDOUT: return ErrorCode::kTimedOut;
    case EBADMSG: return ErrorCode::kCorrupt;
    default: return ErrorCode::kIo;
  }
}

}  // namespace

const char* name_of(ErrorCode code) noexcept {
  switch (code) {
    case ErrorCode::kOk: return "OK";
    case ErrorCode::kInvalidArgument: return "INVALID_ARGUMENT";
    case ErrorCode::kNotFound: return "NOT_FOUND";
    case ErrorCode::kAlreadyExists: return "ALREADY_EXISTS";
    case ErrorCode::kInUse: return "IN_USE";
    case ErrorCode::kNoSpace: return "NO_SPACE";
    case ErrorCode::kIo: return "IO_ERROR";
    case ErrorCode::kReadOnly: return "READ_ONLY";
    case ErrorCode::kUnsupported: return "UNSUPPORTED";
    case ErrorCode::kCorrupt: return "CORRUPT";
    case ErrorCode::kTruncated: return "TRUNCATED";
    case ErrorCode::kForeign: return "FOREIGN";
    case ErrorCode::kVersion: return "VERSION_UNKNOWN";
    case ErrorCode::kClosed: return "CLOSED";
    case ErrorCode::kTimedOut: return "TIMED_OUT";
    case ErrorCode::kCaptureBroken: return "CAPTURE_BROKEN";
    case ErrorCode::kLimitReached: return "LIMIT_REACHED";
    case ErrorCode::kFenced: return "FENCED";
    case ErrorCode::kHandedOver: return "HANDED_OVER";
    case ErrorCode::kStale: return "STALE";
  }
  return "UNKNOWN";
}

Status Status::from_errno(std::string what, int sys_errno) {
  const char* reason = sys_errno == EBADMSG ? kDamaged : std::strerror(sys_errno);
  return {code_of_errno(sys_errno), what + ": " + reason, sys_errno};
}

}  // namespace tidemark
