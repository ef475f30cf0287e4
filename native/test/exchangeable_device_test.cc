// ExchangeableDevice: the contract, and readers that see one device or the next.
#include "device/exchangeable_device.h"

#include <doctest/doctest.h>

#include <atomic>
#include <thread>

#include "device/fault_device.h"
#include "device/memory_device.h"
#include "device_contract.h"

using namespace tidemark;
using namespace tidemark::device_contract;

namespace {

std::shared_ptr<BlockDevice> filled_with(std::byte value, uint64_t size_bytes = kMiB) {
  auto device = make_memory_device(size_bytes);
  REQUIRE(write_sync(*device, 0, Bytes(size_bytes, value)).is_ok());
  return device;
}

// Asks without a request.
bool reads_as_hole(BlockDevice& device) {
  std::vector<DeviceExtent> extents;
  REQUIRE(device.query_extents("base:allocation", 0, kMiB, 1, extents).is_ok());
  return (extents.at(0).flags & kExtentHole) != 0;
}

}  // namespace

TEST_CASE("An exchangeable device keeps the contract") {
  run_device_contract("exchangeable", [](uint64_t size_bytes) {
    return make_exchangeable_device(make_memory_device(size_bytes));
  });
}

TEST_CASE("A device of another size is refused, and what was there goes on") {
  const auto device = make_exchangeable_device(filled_with(std::byte{1}));
  const Status status = device->exchange(filled_with(std::byte{2}, 2 * kMiB));
  CHECK(status.code() == ErrorCode::kInvalidArgument);
  CHECK(read_all(*device) == Bytes(kMiB, std::byte{1}));
}

TEST_CASE("What is in flight ends at the former device, before it is let go of") {
  auto faults = make_fault_device(filled_with(std::byte{1}));
  const std::weak_ptr<BlockDevice> former = faults;
  const auto device = make_exchangeable_device(faults);
  faults->hold(IoOp::kRead);
  Probe read(IoOp::kRead, 0, 4096);
  read.submit(*device);
  std::atomic<bool> is_exchanged = false;
  std::thread exchanging([&] {
    CHECK(device->exchange(make_memory_device(kMiB)).is_ok());
    is_exchanged = true;
  });
  while (!reads_as_hole(*device)) std::this_thread::yield();
  CHECK_FALSE(is_exchanged);
  CHECK_FALSE(former.expired());
  faults->release_held();
  CHECK(read.wait() == 0);
  CHECK(read.data()[0] == std::byte{1});
  exchanging.join();
  faults.reset();
  CHECK(former.expired());
  CHECK(is_zero(read_all(*device)));
}
