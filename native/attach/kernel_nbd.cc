#include "attach/kernel_nbd.h"

#include <linux/nbd-netlink.h>
#include <unistd.h>

#include <cerrno>
#include <thread>

#include "attach/device_claim.h"
#include "attach/generic_netlink.h"
#include "attach/nbd_client_sockets.h"
#include "common/nbd_wire.h"

namespace tidemark::attach {

namespace {

// Since Linux 5.14; headers are older than kernels.
constexpr uint16_t kBackendIdentifier = 10;

constexpr std::chrono::milliseconds kSettlePause{20};
constexpr int kSettleAttempts = 500;

std::string path_of(uint32_t index) { return "/dev/nbd" + std::to_string(index); }

Status failure(const std::string& what, int error) {
  if (error == EPERM) {
    return Status(ErrorCode::kUnsupported, what + ": because only root may. Run it as root.",
                  error);
  }
  if (error == EBUSY) {
    return Status(ErrorCode::kInUse, what + ": because that device is in use. Choose another one.",
                  error);
  }
  return Status::from_errno(what, error);
}

// The kernel changes a device only for the backend that connected it.
void identify(NetlinkMessage& message, const GenericNetlink& netlink,
              const NbdAttachment& attachment) {
  if (netlink.maximum_attribute() < kBackendIdentifier) return;
  message.add_string(kBackendIdentifier, attachment.backend_id);
}

// What CONNECT and RECONFIGURE have in common. The socket numbers are ours: the
// kernel takes references of its own while it works on the message.
void describe(NetlinkMessage& message, const GenericNetlink& netlink,
              const NbdAttachment& attachment, const NbdClientSockets& sockets) {
  message.add<uint64_t>(NBD_ATTR_TIMEOUT, static_cast<uint64_t>(attachment.request_limit.count()));
  message.add<uint64_t>(NBD_ATTR_DEAD_CONN_TIMEOUT,
                        static_cast<uint64_t>(attachment.reconnect_limit.count()));
  identify(message, netlink, attachment);
  const size_t list = message.begin_nested(NBD_ATTR_SOCKETS);
  for (const UniqueFd& fd : sockets.fds) {
    const size_t item = message.begin_nested(NBD_SOCK_ITEM);
    message.add<uint32_t>(NBD_SOCK_FD, static_cast<uint32_t>(fd.get()));
    message.end_nested(item);
  }
  message.end_nested(list);
}

// The kernel's side ends a moment after the last one closed the device.
Status wait_until_gone(uint32_t index) {
  const std::string pid = "/sys/block/nbd" + std::to_string(index) + "/pid";
  for (int i = 0; i < kSettleAttempts; ++i) {
    if (::access(pid.c_str(), F_OK) != 0) return Status::ok();
    std::this_thread::sleep_for(kSettlePause);
  }
  return Status(ErrorCode::kTimedOut, "Cannot detach " + path_of(index) +
                                          ": because the kernel has not let go of it in time.");
}

Status disconnect(uint32_t index) {
  auto netlink = GenericNetlink::open(NBD_GENL_FAMILY_NAME);
  if (!netlink.is_ok()) return netlink.status();
  NetlinkMessage message(netlink.value().family(), NBD_CMD_DISCONNECT, NBD_GENL_VERSION);
  message.add<uint32_t>(NBD_ATTR_INDEX, index);
  const int error = netlink.value().transact(message);
  return error == 0 ? Status::ok() : failure("Cannot detach " + path_of(index), error);
}

}  // namespace

Status probe_kernel_nbd() { return GenericNetlink::open(NBD_GENL_FAMILY_NAME).status(); }

Result<uint32_t> connect_kernel_nbd(const NbdAttachment& attachment, int index) {
  auto netlink = GenericNetlink::open(NBD_GENL_FAMILY_NAME);
  if (!netlink.is_ok()) return netlink.status();
  const auto sockets =
      connect_nbd_client(attachment.unix_path, attachment.export_name, attachment.connection_count);
  if (!sockets.is_ok()) return sockets.status();
  const uint64_t block_bytes =
      std::max(attachment.block_bytes, sockets.value().minimum_block_bytes);
  NetlinkMessage message(netlink.value().family(), NBD_CMD_CONNECT, NBD_GENL_VERSION);
  if (index != kAnyNbdDevice) {
    message.add<uint32_t>(NBD_ATTR_INDEX, static_cast<uint32_t>(index));
  }
  message.add<uint64_t>(NBD_ATTR_SIZE_BYTES, sockets.value().size_bytes);
  message.add<uint64_t>(NBD_ATTR_BLOCK_SIZE_BYTES, block_bytes);
  message.add<uint64_t>(NBD_ATTR_SERVER_FLAGS, sockets.value().transmission_flags);
  describe(message, netlink.value(), attachment, sockets.value());
  std::optional<uint32_t> connected;
  const int error = netlink.value().transact(message, [&](const NetlinkAttributes& attributes) {
    connected = attributes.number<uint32_t>(NBD_ATTR_INDEX);
  });
  if (error != 0) return failure("Cannot attach the disk as a kernel block device", error);
  if (connected.has_value()) return *connected;
  return Status(ErrorCode::kIo, "Cannot attach the disk: because the kernel names no device.");
}

Status reconnect_kernel_nbd(const NbdAttachment& attachment, uint32_t index) {
  auto netlink = GenericNetlink::open(NBD_GENL_FAMILY_NAME);
  if (!netlink.is_ok()) return netlink.status();
  const auto sockets =
      connect_nbd_client(attachment.unix_path, attachment.export_name, attachment.connection_count);
  if (!sockets.is_ok()) return sockets.status();
  NetlinkMessage message(netlink.value().family(), NBD_CMD_RECONFIGURE, NBD_GENL_VERSION);
  message.add<uint32_t>(NBD_ATTR_INDEX, index);
  describe(message, netlink.value(), attachment, sockets.value());
  const int error = netlink.value().transact(message);
  return error == 0 ? Status::ok() : failure("Cannot connect " + path_of(index) + " again", error);
}

Status resize_kernel_nbd(const NbdAttachment& attachment, uint32_t index, uint64_t size_bytes) {
  auto netlink = GenericNetlink::open(NBD_GENL_FAMILY_NAME);
  if (!netlink.is_ok()) return netlink.status();
  NetlinkMessage message(netlink.value().family(), NBD_CMD_RECONFIGURE, NBD_GENL_VERSION);
  message.add<uint32_t>(NBD_ATTR_INDEX, index);
  message.add<uint64_t>(NBD_ATTR_SIZE_BYTES, size_bytes);
  identify(message, netlink.value(), attachment);
  const int error = netlink.value().transact(message);
  return error == 0 ? Status::ok() : failure("Cannot resize " + path_of(index), error);
}

Status disconnect_kernel_nbd(uint32_t index) {
  auto claim = claim_and_flush(path_of(index));
  if (!claim.is_ok()) return claim.status();
  const Status status = disconnect(index);
  if (!status.is_ok()) return status;
  claim.value().reset();  // an open device is still configured
  return wait_until_gone(index);
}

Status drop_kernel_nbd(uint32_t index) { return disconnect(index); }

}  // namespace tidemark::attach
