// The kernel's NBD client, through its netlink interface: /dev/nbdN over
// connections to an NBD server of this machine.
//
// When all connections die, the kernel holds the device's I/O for
// `reconnect_limit` and takes fresh connections meanwhile; requests that were
// under way are sent again when `request_limit` has passed since they were made.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "common/status.h"

namespace tidemark::attach {

struct NbdAttachment {
  std::string unix_path;  // of the server
  std::string export_name;
  uint32_t connection_count = 2;
  uint32_t block_bytes = 512;  // logical block size: 512 to 4096
  std::chrono::seconds request_limit{30};
  std::chrono::seconds reconnect_limit{300};
  // Kept by kernels from 5.14 on, and shown in /sys/block/nbdN/backend: no other
  // backend can take the device over.
  std::string backend_id;
};

inline constexpr int kAnyNbdDevice = -1;

// kUnsupported when the kernel has no nbd (the module is not loaded).
Status probe_kernel_nbd();

// The device's number. `index`: the one wanted, or kAnyNbdDevice.
Result<uint32_t> connect_kernel_nbd(const NbdAttachment& attachment, int index);

// Gives a device whose connections are dead fresh ones; those that live stay.
Status reconnect_kernel_nbd(const NbdAttachment& attachment, uint32_t index);

// The device grows to what its server has by now, mounted or not.
Status resize_kernel_nbd(const NbdAttachment& attachment, uint32_t index, uint64_t size_bytes);

// Refuses (kInUse) while something has the device open for itself, such as a
// mounted file system; else flushes it and takes it away.
Status disconnect_kernel_nbd(uint32_t index);

// The same without asking and without flushing: for a device whose server is
// gone. What was not written is lost.
Status drop_kernel_nbd(uint32_t index);

}  // namespace tidemark::attach
