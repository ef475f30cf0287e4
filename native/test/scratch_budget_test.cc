// What a budget lets scratches take of their file system.
#include <doctest/doctest.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <thread>

#include "device_probe.h"
#include "layered_scene.h"

using namespace tidemark;
using device_contract::Probe;

namespace {

constexpr uint64_t kKiB = 1024;
constexpr uint64_t kGranularity = 4 * kKiB;
constexpr uint64_t kPlenty = UINT64_MAX >> 12;

uint64_t file_bytes(const std::string& path) {
  struct stat info;
  REQUIRE(::stat(path.c_str(), &info) == 0);
  return static_cast<uint64_t>(info.st_blocks) * 512;
}

uint64_t free_bytes(const std::string& path) {
  struct statvfs info;
  REQUIRE(::statvfs(path.c_str(), &info) == 0);
  return info.f_bavail * info.f_frsize;
}

// Two disks that share a budget.
struct Pair {
  ScratchDirectory directory;
  std::shared_ptr<ScratchBudget> budget;
  std::vector<std::shared_ptr<BlockDevice>> disks;

  Pair(uint64_t limit_bytes, uint64_t floor_bytes)
      : budget(std::make_shared<ScratchBudget>(limit_bytes, floor_bytes)) {
    for (int i = 0; i < 2; ++i) open();
  }
  void open() {
    LayeredDeviceParameters parameters;
    parameters.disk = kDisk;
    parameters.size_bytes = 64 << 20;
    parameters.granularity_bytes = kGranularity;
    parameters.base = memory_with(LayerBytes(kGranularity, std::byte{5}));
    parameters.scratch_path = path(disks.size());
    parameters.scratch_budget = budget;
    disks.push_back(open_device(parameters));
  }
  std::string path(size_t index) const { return directory.path() + "/" + std::to_string(index); }
  uint64_t taken_bytes() const { return file_bytes(path(0)) + file_bytes(path(1)); }
};

// A file system counts what it needs to find a file's blocks as the file's, once they
// are placed.
bool is_about(uint64_t taken_bytes, uint64_t written_bytes) {
  return taken_bytes >= written_bytes && taken_bytes <= written_bytes + 64 * kKiB;
}

int write_error(BlockDevice& device, uint64_t offset, uint64_t length, int value = 9) {
  const LayerBytes content(length, static_cast<std::byte>(value));
  return write_sync(device, offset, content).sys_errno();
}

}  // namespace

TEST_CASE("scratches take no more than their budget together, and what is there is written on") {
  constexpr uint64_t kLimit = 512 * kKiB;
  Pair pair(kLimit, 0);
  uint64_t written = 0;
  while (write_error(*pair.disks[written / kGranularity % 2], written, kGranularity) == 0) {
    written += kGranularity;
    REQUIRE(written <= kLimit);
  }
  CHECK(written == kLimit);
  CHECK(is_about(pair.taken_bytes(), kLimit));
  CHECK(pair.budget->refused_count() == 1);
  for (const auto& disk : pair.disks) {
    CHECK(write_error(*disk, kLimit, kGranularity) == ENOSPC);
    CHECK(write_error(*disk, kLimit + 7, 100) == ENOSPC);
    Probe room(IoOp::kWriteZeroes, 2 * kLimit, kGranularity, kIoNoHole);
    CHECK(room.run(*disk) == ENOSPC);
    CHECK(trim_sync(*disk, kLimit, kGranularity).is_ok());
    CHECK(flush_sync(*disk).is_ok());
  }
  CHECK(write_error(*pair.disks[0], 0, kGranularity, 77) == 0);
  LayerBytes seen(2 * kGranularity);
  REQUIRE(read_sync(*pair.disks[0], 0, seen).is_ok());
  CHECK(seen[0] == std::byte{77});
  CHECK(seen[kGranularity] == std::byte{0});
  CHECK(is_about(pair.taken_bytes(), kLimit));
}

TEST_CASE("a scratch leaves its file system the floor") {
  ScratchDirectory directory;
  const uint64_t left = free_bytes(directory.path());
  Pair pair(kPlenty, left + (1 << 30));
  CHECK(write_error(*pair.disks[0], 0, kGranularity) == ENOSPC);
  CHECK(pair.budget->refused_count() == 1);
  Pair other(kPlenty, left / 2);
  CHECK(write_error(*other.disks[0], 0, kGranularity) == 0);
}

TEST_CASE("what one disk gives up, the others may take") {
  constexpr uint64_t kLimit = 256 * kKiB;
  Pair pair(kLimit, 0);
  CHECK(write_error(*pair.disks[0], 0, kLimit) == 0);
  CHECK(write_error(*pair.disks[1], 0, kGranularity) == ENOSPC);
  pair.disks[0].reset();
  CHECK(write_error(*pair.disks[1], 0, kLimit) == 0);
}

TEST_CASE("many threads stay within the budget") {
  constexpr uint64_t kLimit = 24 << 20;  // more than a look covers
  Pair pair(kLimit, 0);
  std::vector<std::thread> threads;
  std::atomic<uint64_t> written{0};
  for (uint64_t thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      for (uint64_t i = 0; i < 512; ++i) {
        const uint64_t offset = (thread * 512 + i) * 4 * kGranularity;
        if (write_error(*pair.disks[i % 2], offset, 4 * kGranularity) == 0) {
          written.fetch_add(4 * kGranularity);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(is_about(pair.taken_bytes(), written.load()));
  CHECK(written.load() <= kLimit);
  // Who asked last may have met others that were refused after it.
  CHECK(written.load() >= kLimit - 64 * kKiB - 4 * 4 * kGranularity);
}
