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
  // After the file has grown.
  bool take_capacity() const { return ::ioctl(loop_.get(), LOOP_SET_CAPACITY, 0) == 0; }

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

TEST_CASE("a block device that was grown takes its new size when asked, and no more") {
  if (!has_loop_devices()) return;
  ScratchDirectory scratch;
  const std::string file = scratch.make_file(2 * kMiB);
  const LoopDevice loop(file);
  FileDeviceParameters parameters;
  parameters.path = loop.path();
  const auto device = open_file_device(parameters).value();
  CHECK(device->resize(3 * kMiB).code() == ErrorCode::kInvalidArgument);
  std::filesystem::resize_file(file, 4 * kMiB);
  REQUIRE(loop.take_capacity());
  CHECK(device->size_bytes() == 2 * kMiB);
  CHECK(device->resize(4 * kMiB + 512).code() == ErrorCode::kInvalidArgument);
  CHECK(device->resize(4 * kMiB).is_ok());
  CHECK(device->size_bytes() == 4 * kMiB);
  const Bytes content(kMiB, std::byte{7});
  CHECK(write_sync(*device, 3 * kMiB, content).is_ok());
  Bytes seen(kMiB);
  CHECK(read_sync(*device, 3 * kMiB, seen).is_ok());
  CHECK(seen == content);
}
