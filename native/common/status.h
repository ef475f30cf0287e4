// Status and Result: how native code reports what went wrong.
//
// No exception leaves a function of this tree (threads and Node-API frames
// cannot carry one). `sys_errno` keeps the kernel's reason, so that the NBD
// server can answer with the right errno and the binding can name it.
#pragma once

#include <cassert>
#include <cstdint>
#include <string>
#include <utility>
#include <variant>

namespace tidemark {

// Stable: the binding hands the names (see `name_of`) to JavaScript as `code`.
enum class ErrorCode : uint8_t {
  kOk = 0,
  kInvalidArgument,
  kNotFound,
  kAlreadyExists,
  kInUse,            // locked by another process or object
  kNoSpace,
  kIo,
  kReadOnly,
  kUnsupported,
  kCorrupt,          // a checksum or an invariant of a file does not hold
  kTruncated,        // a file is shorter than its header says
  kForeign,          // a file is intact but belongs to another disk, VM or lineage
  kVersion,          // a format version this build does not know
  kClosed,           // used after close()
  kTimedOut,
  kCaptureBroken,    // the frozen content is lost; the bits are kept
  kLimitReached,     // a stated limit (targets, connections) is exhausted
  kFenced,           // a newer holder owns the disk
  kHandedOver,       // given to another holder, by an export that is not ours to use again
  kStale,            // intact, but older than what is there
};

const char* name_of(ErrorCode code) noexcept;

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(ErrorCode code, std::string message, int sys_errno = 0)
      : code_(code), sys_errno_(sys_errno), message_(std::move(message)) {}

  static Status ok() { return {}; }
  // "<what>: <strerror(sys_errno)>", the code derived from the errno.
  static Status from_errno(std::string what, int sys_errno);

  bool is_ok() const noexcept { return code_ == ErrorCode::kOk; }
  ErrorCode code() const noexcept { return code_; }
  int sys_errno() const noexcept { return sys_errno_; }
  const std::string& message() const noexcept { return message_; }

 private:
  ErrorCode code_ = ErrorCode::kOk;
  int sys_errno_ = 0;
  std::string message_;
};

// A value, or the Status that says why there is none.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::move(value)) {}  // NOLINT(google-explicit-constructor)
  Result(Status status) : state_(std::move(status)) {  // NOLINT(google-explicit-constructor)
    assert(!std::get<Status>(state_).is_ok());
  }

  bool is_ok() const noexcept { return std::holds_alternative<T>(state_); }
  Status status() const { return is_ok() ? Status::ok() : std::get<Status>(state_); }
  T& value() & { return std::get<T>(state_); }
  const T& value() const& { return std::get<T>(state_); }
  T&& value() && { return std::get<T>(std::move(state_)); }

 private:
  std::variant<Status, T> state_;
};

}  // namespace tidemark
