// NbdClientSocket: a connection to an NBD server while it negotiates: whole
// sends and receives with a deadline, which another thread can cancel.
#pragma once

#include <chrono>
#include <cstddef>
#include <span>

#include "common/fd.h"
#include "device/nbd_device.h"

namespace tidemark {

struct NbdPatience {
  std::chrono::steady_clock::time_point deadline;
  int cancel_fd = -1;  // readable: give up (kClosed)
};

class NbdClientSocket {
 public:
  // kNotFound (no such socket or host), kTimedOut, kClosed, kIo.
  static Result<NbdClientSocket> connect(const NbdDeviceParameters& parameters,
                                         const NbdPatience& patience);
  // An established one, non-blocking.
  NbdClientSocket(UniqueFd fd, const NbdPatience& patience)
      : fd_(std::move(fd)), patience_(patience) {}

  Status send(std::span<const std::byte> bytes);
  Status receive(std::span<std::byte> bytes);

  template <typename Struct>
  Status send_struct(const Struct& value) {
    return send(std::as_bytes(std::span(&value, 1)));
  }
  template <typename Struct>
  Status receive_struct(Struct& value) {
    return receive(std::as_writable_bytes(std::span(&value, 1)));
  }

  UniqueFd take_fd() { return std::move(fd_); }

 private:
  UniqueFd fd_;
  NbdPatience patience_;
};

}  // namespace tidemark
