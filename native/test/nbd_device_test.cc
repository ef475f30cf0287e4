// NbdDevice in front of our own server.
#include <doctest/doctest.h>

#include <list>

#include "device/fault_device.h"
#include "device/file_device.h"
#include "device/nbd_uri.h"
#include "device_contract.h"
#include "nbd_upstream.h"

using namespace tidemark;
using namespace tidemark::device_contract;

namespace {

using MakeDisk = std::function<std::shared_ptr<BlockDevice>(uint64_t size_bytes)>;

// The upstreams stay until the maker goes: a device may go on its own thread.
MakeDevice upstream_maker(MakeDisk make_disk, uint32_t connection_count) {
  auto upstreams = std::make_shared<std::list<NbdUpstream>>();
  return [=](uint64_t size_bytes) -> std::shared_ptr<BlockDevice> {
    NbdDeviceParameters parameters = upstreams->emplace_back(make_disk(size_bytes)).parameters();
    parameters.connection_count = connection_count;
    return open_upstream(parameters);
  };
}

MakeDisk file_disk_maker() {
  auto scratch = std::make_shared<ScratchDirectory>();
  return [=](uint64_t size_bytes) -> std::shared_ptr<BlockDevice> {
    FileDeviceParameters parameters;
    parameters.path = scratch->make_file(size_bytes);
    auto device = open_file_device(parameters);
    REQUIRE(device.is_ok());
    return device.value();
  };
}

}  // namespace

TEST_CASE("NbdDevice over one connection keeps the contract") {
  run_device_contract("nbd", upstream_maker(make_memory_device, 1));
}

TEST_CASE("NbdDevice over four connections keeps the contract") {
  run_device_contract("nbd x4", upstream_maker(make_memory_device, 4));
}

TEST_CASE("NbdDevice over a file keeps the contract") {
  run_device_contract("nbd over a file", upstream_maker(file_disk_maker(), 2));
}

TEST_CASE("it keeps the contract with next to no room for unflushed writes") {
  run_device_contract("nbd, small",
                      [&, make = std::make_shared<std::list<NbdUpstream>>()](
                          uint64_t size_bytes) -> std::shared_ptr<BlockDevice> {
                        NbdDeviceParameters parameters =
                            make->emplace_back(make_memory_device(size_bytes)).parameters();
                        parameters.unflushed_limit_bytes = 10'000;
                        return open_upstream(parameters);
                      });
}
