// An upstream in this process for tests of NbdDevice: our own server over a device
// of memory, or any.
#pragma once

#include <doctest/doctest.h>

#include <memory>
#include <string>

#include "device/memory_device.h"
#include "device/nbd_device.h"
#include "nbd/nbd_server.h"
#include "scratch_file.h"

namespace tidemark {

class NbdUpstream {
 public:
  explicit NbdUpstream(std::shared_ptr<BlockDevice> disk, bool read_only = false)
      : disk_(std::move(disk)), read_only_(read_only) {
    start();
  }
  ~NbdUpstream() { stop(); }

  // On the same path each time.
  void start() {
    NbdServerParameters parameters;
    parameters.unix_path = scratch_.path() + "/nbd.sock";
    parameters.thread_count = 2;
    auto server = NbdServer::start(parameters);
    REQUIRE_MESSAGE(server.is_ok(), server.status().message());
    server_ = std::move(server.value());
    REQUIRE(server_->add_export({"disk one", "", read_only_, disk_}).is_ok());
  }
  void stop() { server_.reset(); }
  void replace(std::shared_ptr<BlockDevice> disk, bool read_only = false) {
    disk_ = std::move(disk);
    read_only_ = read_only;
  }

  NbdDeviceParameters parameters() const {
    NbdDeviceParameters parameters;
    parameters.unix_path = scratch_.path() + "/nbd.sock";
    parameters.export_name = "disk one";
    return parameters;
  }
  NbdServer& server() { return *server_; }

 private:
  ScratchDirectory scratch_;
  std::shared_ptr<BlockDevice> disk_;
  bool read_only_;
  std::unique_ptr<NbdServer> server_;
};

inline std::shared_ptr<NbdDevice> open_upstream(const NbdDeviceParameters& parameters) {
  auto device = open_nbd_device(parameters);
  REQUIRE_MESSAGE(device.is_ok(), device.status().message());
  return device.value();
}

}  // namespace tidemark
