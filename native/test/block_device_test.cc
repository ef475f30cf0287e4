// FileDevice on a block device: a loop device over a scratch file.
#include <doctest/doctest.h>
#include <linux/loop.h>
#include <sys/ioctl.h>

#include "device/file_device.h"
#include "device_contract.h"
#include "scratch_file.h"

using namespace tidemark;
using namespace tidemark::device_contract;

namespace {

// A loop device over a file; gone with its last user, even if the test is killed.
class LoopDevice {
 public:
  explicit LoopDevice(const std::string& backing) {
    const UniqueFd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
    const int number = control.is_open() ? ::ioctl(control.get(), LOOP_CTL_GET_FREE) : -1;
    if (number < 0) return;
    const UniqueFd file(::open(backing.c_str(), O_RDWR | O_CLOEXEC));
    const std::string path = "/dev/loop" + std::to_string(number);
    UniqueFd loop(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (!loop.is_open()) return;
    loop_config config{};
    config.fd = static_cast<uint32_t>(file.get());
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
    if (::ioctl(loop.get(), LOOP_CONFIGURE, &config) != 0) return;
    loop_ = std::move(loop);
    path_ = path;
  }
  const std::string& path() const { return path_; }  // empty: not to be had

 private:
  UniqueFd loop_;
  std::string path_;
};

MakeDevice loop_device_maker(bool direct) {
  auto scratch = std::make_shared<ScratchDirectory>();
  return [=](uint64_t size_bytes) -> std::shared_ptr<BlockDevice> {
    const LoopDevice loop(scratch->make_file(size_bytes));
    REQUIRE(loop.path() != "");
    FileDeviceParameters parameters;
    parameters.path = loop.path();
    parameters.direct = direct;
    auto device = open_file_device(parameters);
    REQUIRE_MESSAGE(device.is_ok(), device.status().message());
    return device.value();
  };
}

bool has_loop_devices() {
  ScratchDirectory scratch;
  const bool has = LoopDevice(scratch.make_file(kMiB)).path() != "";
  if (!has) MESSAGE("block devices are not checked: no loop device may be made here");
  return has;
}

}  // namespace

TEST_CASE("a block device keeps the contract") {
  if (!has_loop_devices()) return;
  run_device_contract("loop", loop_device_maker(false));
}

TEST_CASE("a block device with direct I/O keeps the contract") {
  if (!has_loop_devices()) return;
  run_device_contract("direct loop", loop_device_maker(true));
}
