// ServedDisk: a server with one export on a Unix socket of its own.
#pragma once

#include <doctest/doctest.h>
#include <stdlib.h>

#include <memory>
#include <string>
#include <vector>

#include "nbd/nbd_server.h"
#include "nbd_raw_client.h"
#include "nbd_scripted_device.h"

namespace nbd_test {

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    char name[] = "/tmp/tidemark-nbd-XXXXXX";
    REQUIRE(::mkdtemp(name) != nullptr);
    path_ = name;
  }
  ~TemporaryDirectory() { ::rmdir(path_.c_str()); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline std::unique_ptr<tidemark::NbdServer> start_server(
    const tidemark::NbdServerParameters& parameters) {
  auto server = tidemark::NbdServer::start(parameters);
  REQUIRE_MESSAGE(server.is_ok(), server.status().message());
  return std::move(server).value();
}

struct ServedDisk {
  static constexpr uint64_t kSizeBytes = 1 << 20;

  explicit ServedDisk(uint64_t size_bytes = kSizeBytes)
      : device(std::make_shared<ScriptedDevice>(size_bytes)) {
    parameters.unix_path = directory.path() + "/nbd.sock";
    parameters.thread_count = 2;
  }
  ~ServedDisk() {
    if (server != nullptr) server->stop();
    CHECK_FALSE(device->is_misused());
  }

  // After device and parameters are as the test wants them.
  ServedDisk& serve(const std::string& name = {}, bool read_only = false) {
    server = start_server(parameters);
    const auto status = server->add_export({name, "a scripted disk", read_only, device});
    REQUIRE_MESSAGE(status.is_ok(), status.message());
    return *this;
  }

  RawClient connect() const { return RawClient(server->address()); }
  RawClient go(bool structured = false, std::initializer_list<std::string> contexts = {}) const {
    RawClient client = connect();
    client.go({}, structured, contexts);
    return client;
  }

  TemporaryDirectory directory;
  tidemark::NbdServerParameters parameters;
  std::shared_ptr<ScriptedDevice> device;
  std::unique_ptr<tidemark::NbdServer> server;
};

// The server still serves: the proof after each attack.
inline void check_alive(const ServedDisk& disk) {
  RawClient client = disk.go();
  CHECK(client.call(0, CMD_READ, 0, 512).payload.size() == 512);
}

}  // namespace nbd_test
