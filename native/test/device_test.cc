#include <doctest/doctest.h>

#include <cerrno>
#include <deque>
#include <fstream>

#include "device/fault_device.h"
#include "device/file_device.h"
#include "device/memory_device.h"
#include "device_contract.h"
#include "scratch_file.h"

using namespace tidemark;
using namespace tidemark::device_contract;

namespace {

// Makes a new file for each device, in one directory that goes with the maker.
MakeDevice file_device_maker(IoEngineKind engine, bool direct) {
  auto scratch = std::make_shared<ScratchDirectory>();
  return [=](uint64_t size_bytes) {
    FileDeviceParameters parameters;
    parameters.path = scratch->make_file(size_bytes);
    parameters.direct = direct;
    parameters.engine = engine;
    auto device = open_file_device(parameters);
    REQUIRE_MESSAGE(device.is_ok(), device.status().message());
    return device.value();
  };
}

bool has_direct_io() {
  ScratchDirectory scratch;
  FileDeviceParameters parameters;
  parameters.path = scratch.make_file(kMiB);
  parameters.direct = true;
  const auto device = open_file_device(parameters);
  if (!device.is_ok()) MESSAGE("direct I/O is not checked: " << device.status().message());
  return device.is_ok();
}

uint64_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  uint64_t total_pages = 0, resident_pages = 0;
  statm >> total_pages >> resident_pages;
  return resident_pages * 4096;
}

std::vector<uint32_t> flags_of(const std::vector<DeviceExtent>& extents) {
  std::vector<uint32_t> flags;
  for (const DeviceExtent& extent : extents) flags.push_back(extent.flags);
  return flags;
}

}  // namespace

TEST_CASE("MemoryDevice keeps the contract") { run_device_contract("memory", make_memory_device); }

TEST_CASE("FileDevice with io_uring keeps the contract") {
  run_device_contract("io_uring", file_device_maker(IoEngineKind::kIoUring, false));
}

TEST_CASE("FileDevice with threads keeps the contract") {
  run_device_contract("threads", file_device_maker(IoEngineKind::kThreads, false));
}

TEST_CASE("FileDevice with direct I/O and io_uring keeps the contract") {
  if (!has_direct_io()) return;
  run_device_contract("direct io_uring", file_device_maker(IoEngineKind::kIoUring, true));
}

TEST_CASE("FileDevice with direct I/O and threads keeps the contract") {
  if (!has_direct_io()) return;
  run_device_contract("direct threads", file_device_maker(IoEngineKind::kThreads, true));
}

TEST_CASE("FaultDevice without a fault keeps the contract") {
  run_device_contract("fault", [](uint64_t size_bytes) {
    return make_fault_device(make_memory_device(size_bytes));
  });
}

TEST_CASE("files, disks in memory, and what wraps them can grow") {
  CHECK(can_resize(make_memory_device));
  CHECK(can_resize(file_device_maker(IoEngineKind::kAutomatic, false)));
  CHECK(can_resize([](uint64_t size) { return make_fault_device(make_memory_device(size)); }));
  if (has_direct_io()) CHECK(can_resize(file_device_maker(IoEngineKind::kAutomatic, true)));
}

TEST_CASE("a file grows on the file system, and one that is larger already is not cut") {
  ScratchDirectory scratch;
  FileDeviceParameters parameters;
  parameters.path = scratch.make_file(kMiB);
  const auto device = open_file_device(parameters).value();
  CHECK(device->resize(2 * kMiB).is_ok());
  CHECK(std::filesystem::file_size(parameters.path) == 2 * kMiB);
  std::filesystem::resize_file(parameters.path, 5 * kMiB);
  CHECK(device->resize(3 * kMiB).is_ok());
  CHECK(device->size_bytes() == 3 * kMiB);
  CHECK(std::filesystem::file_size(parameters.path) == 5 * kMiB);
  parameters.read_only = true;
  CHECK(open_file_device(parameters).value()->resize(6 * kMiB).code() == ErrorCode::kReadOnly);
}

TEST_CASE("a memory disk of 1 TiB costs what was written to it") {
  constexpr uint64_t kTiB = 1ULL << 40;
  const uint64_t before = resident_bytes();
  const auto device = make_memory_device(kTiB);
  REQUIRE(device != nullptr);
  const Bytes content(8192, std::byte{0x5A});
  for (const uint64_t offset : {uint64_t{0}, kTiB / 2 - 4096, kTiB - 8192}) {
    CHECK(write_sync(*device, offset, content).is_ok());
    Bytes seen(8192);
    CHECK(read_sync(*device, offset, seen).is_ok());
    CHECK(seen == content);
  }
  Bytes seen(4 * kMiB);
  CHECK(read_sync(*device, kTiB / 4, seen).is_ok());
  CHECK(is_zero(seen));
  std::vector<DeviceExtent> extents;
  CHECK(device->query_extents("base:allocation", 0, kTiB, 100, extents).is_ok());
  constexpr uint32_t kHole = kExtentHole | kExtentZero;
  CHECK(flags_of(extents) == std::vector<uint32_t>{0, kHole, 0, kHole, 0});
  CHECK(extents[0].length_bytes == 64 * 1024);
  CHECK(extents[2].length_bytes == 128 * 1024);
  CHECK(trim_sync(*device, 0, kTiB).is_ok());
  extents.clear();
  CHECK(device->query_extents("base:allocation", 0, kTiB, 100, extents).is_ok());
  CHECK(flags_of(extents) == std::vector<uint32_t>{kHole});
  CHECK(resident_bytes() - before < 64 * kMiB);
}

TEST_CASE("write-zeroes without a hole leaves memory allocated") {
  const auto device = make_memory_device(kMiB);
  CHECK(write_zeroes_sync(*device, 64 * 1024, 64 * 1024, kIoNoHole).is_ok());
  std::vector<DeviceExtent> extents;
  CHECK(device->query_extents("base:allocation", 64 * 1024, 128 * 1024, 9, extents).is_ok());
  CHECK(flags_of(extents) == std::vector<uint32_t>{0, kExtentHole | kExtentZero});
}

TEST_CASE("a fault hits the requests it was armed for and no others") {
  for (const bool on_file : {false, true}) {
    CAPTURE(on_file);
    const MakeDevice make_file = file_device_maker(IoEngineKind::kAutomatic, false);
    const auto device = make_fault_device(on_file ? make_file(kMiB) : make_memory_device(kMiB));
    device->fail_next(IoOp::kWrite, ENOSPC, 2, 1, 0);
    device->fail_next(IoOp::kFlush, EIO, 1, 0, 0);
    const int expected[] = {0, ENOSPC, ENOSPC, 0};
    for (const int error : expected) {
      Probe write(IoOp::kWrite, 0, 4096);
      CHECK(write.run(*device) == error);
      CHECK(write.extra_completions() == 0);
      Probe read(IoOp::kRead, 0, 4096);
      CHECK(read.run(*device) == 0);
    }
    CHECK(flush_sync(*device).sys_errno() == EIO);
    CHECK(flush_sync(*device).is_ok());
  }
}

TEST_CASE("a failed write without partial effect has none") {
  const auto device = make_fault_device(make_memory_device(kMiB));
  device->fail_next(IoOp::kWrite, EIO, 1, 0, 0);
  CHECK(write_sync(*device, 0, Bytes(4096, std::byte{1})).sys_errno() == EIO);
  CHECK(is_zero(read_all(*device)));
}

TEST_CASE("a partial fault takes effect on its part, and the request stays whole") {
  const MakeDevice make_file = file_device_maker(IoEngineKind::kAutomatic, false);
  const auto device = make_fault_device(make_file(kMiB));
  for (const uint32_t flags : {0U, kIoFua}) {
    CHECK(write_zeroes_sync(*device, 0, kMiB).is_ok());
    device->fail_next(IoOp::kWrite, EIO, 1, 0, 5000);
    Probe write(IoOp::kWrite, 4096, 16384, flags);
    std::memset(write.data(), 0x42, 16384);
    CHECK(write.run(*device) == EIO);
    CHECK(write.request().length_bytes == 16384);
    Bytes expected(kMiB);
    std::fill(expected.begin() + 4096, expected.begin() + 9096, std::byte{0x42});
    CHECK(read_all(*device) == expected);
  }
}

TEST_CASE("held requests wait, and go on in order at the release") {
  const auto device = make_fault_device(make_memory_device(kMiB));
  device->hold(IoOp::kWrite);
  std::deque<Probe> writes;
  std::vector<int> order;
  for (int i = 0; i < 5; ++i) {
    Probe& write = writes.emplace_back(IoOp::kWrite, 0, 4096);
    std::memset(write.data(), i + 1, 4096);
    write.after = [&order, i] { order.push_back(i); };
    write.submit(*device);
  }
  CHECK(device->held_count() == 5);
  CHECK(order.empty());
  CHECK(is_zero(read_all(*device)));  // reads pass
  device->fail_next(IoOp::kWrite, EIO, 1, 3, 0);
  device->release_held();
  CHECK(order == std::vector<int>{0, 1, 2, 3, 4});
  CHECK(device->held_count() == 0);
  for (int i = 0; i < 5; ++i) CHECK(writes[static_cast<size_t>(i)].wait() == (i == 3 ? EIO : 0));
  CHECK(read_all(*device)[0] == std::byte{5});
  CHECK(write_sync(*device, 0, Bytes(1)).is_ok());  // no longer held
}
