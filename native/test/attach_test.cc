// What of kernel block devices needs no kernel block device: netlink's bytes, and
// the handshake that comes before the kernel takes the sockets over.
#include <doctest/doctest.h>
#include <linux/nbd-netlink.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <array>
#include <string>

#include "attach/generic_netlink.h"
#include "attach/nbd_client_sockets.h"
#include "attach/netlink_message.h"
#include "common/nbd_wire.h"
#include "device/memory_device.h"
#include "nbd/nbd_server.h"

using namespace tidemark;
using attach::NetlinkAttributes;
using attach::NetlinkMessage;

namespace {

class SocketDirectory {
 public:
  SocketDirectory() { REQUIRE(::mkdtemp(path_.data()) != nullptr); }
  ~SocketDirectory() {
    ::unlink(socket().c_str());
    ::rmdir(path_.data());
  }
  std::string socket() const { return std::string(path_.data()) + "/s"; }

 private:
  std::array<char, 32> path_{"/tmp/tidemark-attach-XXXXXX"};
};

}  // namespace

TEST_CASE("a netlink message has the bytes that the kernel's headers prescribe") {
  NetlinkMessage message(0x1c, NBD_CMD_CONNECT, NBD_GENL_VERSION);
  message.add<uint64_t>(NBD_ATTR_SIZE_BYTES, 0x1122334455667788);
  const size_t list = message.begin_nested(NBD_ATTR_SOCKETS);
  const size_t item = message.begin_nested(NBD_SOCK_ITEM);
  message.add<uint32_t>(NBD_SOCK_FD, 9);
  message.end_nested(item);
  message.end_nested(list);
  message.add_string(NBD_ATTR_BACKEND_IDENTIFIER, "abcd");
  const auto bytes = message.finish(5);
  const unsigned char expected[] = {
      64, 0, 0,    0, 0x1c, 0,    5,    0,    5,    0,    0,    0,    0,  0, 0, 0,  // nlmsghdr:
                                                                                    // REQUEST | ACK
      1,  1, 0,    0,                                                               // genlmsghdr
      12, 0, 2,    0, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 16, 0, 7, 0x80, 12,
      0,  1, 0x80, 8, 0,    1,    0,    9,    0,    0,    0,        // nested twice
      9,  0, 10,   0, 'a',  'b',  'c',  'd',  0,    0,    0,    0,  // padded
  };
  REQUIRE(sizeof expected == 60);
  CHECK(bytes.size() == 60);
  CHECK(std::memcmp(bytes.data() + 4, expected + 4, sizeof expected - 4) == 0);
}

TEST_CASE("an answer's attributes are found, and broken ones end the search") {
  const unsigned char raw[] = {
      8,   0, 1, 0,    7,   0, 0, 0,  // number 1
      6,   0, 2, 0x80, 'x', 0, 0, 0,  // string 2, flagged, padded
      200, 0, 3, 0,    1,   1, 1, 1,  // longer than what is there
  };
  const NetlinkAttributes attributes(std::as_bytes(std::span(raw)));
  CHECK(attributes.number<uint32_t>(1) == 7);
  CHECK(attributes.string(2) == "x");
  CHECK_FALSE(attributes.find(3).has_value());
  CHECK_FALSE(attributes.number<uint64_t>(1).has_value());
  const unsigned char endless[] = {0, 0, 1, 0};
  CHECK_FALSE(NetlinkAttributes(std::as_bytes(std::span(endless))).find(1).has_value());
}

TEST_CASE("a family that the kernel has not is refused with what to load") {
  const auto opened = attach::GenericNetlink::open("tidemark-none");
  REQUIRE_FALSE(opened.is_ok());
  CHECK(opened.status().code() == ErrorCode::kUnsupported);
  CHECK(opened.status().message().find("modprobe tidemark-none") != std::string::npos);
  CHECK(attach::GenericNetlink::open("nlctrl").is_ok());
}

TEST_CASE("sockets for the kernel are in transmission, with simple replies") {
  const SocketDirectory directory;
  NbdServerParameters parameters;
  parameters.unix_path = directory.socket();
  auto server = NbdServer::start(parameters);
  REQUIRE(server.is_ok());
  NbdExport entry;
  entry.name = "disk";
  entry.device = std::make_shared<MemoryDevice>(1 << 20);
  REQUIRE(server.value()->add_export(entry).is_ok());

  const auto connected = attach::connect_nbd_client(directory.socket(), "disk", 3);
  REQUIRE(connected.is_ok());
  CHECK(connected.value().fds.size() == 3);
  CHECK(connected.value().size_bytes == 1 << 20);
  CHECK((connected.value().transmission_flags & nbd::kFlagCanMultiConn) != 0);
  for (const UniqueFd& fd : connected.value().fds) {
    nbd::RequestHeader read{};
    read.magic = nbd::kRequestMagic;
    read.cookie = 42;
    read.length_bytes = 512;
    REQUIRE(::send(fd.get(), &read, sizeof read, 0) == sizeof read);
    std::array<std::byte, sizeof(nbd::SimpleReply) + 512> reply;
    REQUIRE(::recv(fd.get(), reply.data(), reply.size(), MSG_WAITALL) == reply.size());
    const auto header = nbd::load_struct<nbd::SimpleReply>(reply.data());
    CHECK(header.magic == nbd::kSimpleReplyMagic);
    CHECK(header.error == 0);
    CHECK(header.cookie == 42);
  }
}

TEST_CASE("an export that is not there, and a server that is not, are told apart") {
  const SocketDirectory directory;
  CHECK(attach::connect_nbd_client(directory.socket(), "", 1).status().code() ==
        ErrorCode::kNotFound);  // the socket
  NbdServerParameters parameters;
  parameters.unix_path = directory.socket();
  auto server = NbdServer::start(parameters);
  REQUIRE(server.is_ok());
  const Status status = attach::connect_nbd_client(directory.socket(), "none", 1).status();
  CHECK(status.code() == ErrorCode::kNotFound);
  CHECK(status.sys_errno() == ENOENT);
}
