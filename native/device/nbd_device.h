// NbdDevice: an export of any NBD server as a BlockDevice; the upstream of a disk
// whose format or storage is someone else's affair.
//
// It outlives its server: what was in flight when a connection ended is issued
// again on the next one, and so is, before anything else, what the lost server had
// answered but no flush has covered (nbd_unflushed_writes.h). While there is no
// connection requests wait, up to `reconnect_limit`; then they fail with EIO. A
// server that comes back as another disk (smaller, read-only, without flush) gets
// no request at all: they fail at once.
//
// One thread of its own does all I/O of a device. submit() only links the request
// into a list; a batch of requests costs one wake-up, and none while the thread is
// awake, and leaves in one system call a connection.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "device/block_device.h"

namespace tidemark {

struct NbdDeviceParameters {
  std::string unix_path;  // or host and port
  std::string host;
  uint16_t port = 10809;
  std::string export_name;
  // At most so many; one where the server does not promise that a flush on one
  // connection covers the others (CAN_MULTI_CONN).
  uint32_t connection_count = 4;
  bool read_only = false;
  std::chrono::milliseconds connect_limit{10'000};    // to connect and negotiate, once
  std::chrono::milliseconds reconnect_limit{30'000};  // how long a request waits; 0: for ever
  // Answered writes are kept until a flush covers them. Past half of this the
  // device flushes by itself; past all of it writes wait for that.
  uint64_t unflushed_limit_bytes = 64 * 1024 * 1024;
};

struct NbdUpstreamStatus {
  bool is_connected = false;
  uint32_t connection_count = 0;
  uint64_t loss_count = 0;      // how often the connection was lost
  uint64_t reissued_count = 0;  // requests in flight at a loss that were issued again
  uint64_t replayed_count = 0;  // answered writes that were sent again
  std::string last_error;       // why the connection was lost or cannot be had; "" at first
};

class NbdDevice : public BlockDevice {
 public:
  virtual NbdUpstreamStatus upstream_status() const = 0;
};

// Connects and negotiates; blocks up to `connect_limit`. kNotFound (no such export
// or socket), kReadOnly (the export is, and the caller wants to write), kTimedOut,
// kUnsupported (TLS required, not fixed newstyle), kIo (refused, broken handshake).
Result<std::shared_ptr<NbdDevice>> open_nbd_device(const NbdDeviceParameters& parameters);

}  // namespace tidemark
