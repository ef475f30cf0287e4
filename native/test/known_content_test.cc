// KnownContent and ContentFilter: nothing is known but what the point named holds, after a
// crash between any two steps too.
#include <doctest/doctest.h>
#include <sys/resource.h>

#include <csignal>
#include <filesystem>
#include <set>

#include "common/failpoint.h"
#include "tracking/changed_runs.h"
#include "tracking_support.h"

using namespace tidemark;
using namespace tidemark::tracking_test;

namespace {

constexpr uint64_t kBlocks = 64;
constexpr KnownDisk kDisk{{{1}}, kBlocks* kBlock - 1000, kBlock};
const Uuid kOne{{11}};
const Uuid kTwo{{12}};

struct Scene {
  ScratchDirectory scratch;
  std::string path = scratch.path() + "/known";

  std::shared_ptr<KnownContent> open(const KnownDisk& disk = kDisk) const {
    auto opened = KnownContent::open(path, disk);
    REQUIRE(opened.is_ok());
    return opened.value();
  }
};

// Which of the blocks, all of one value, are known to a new filter.
std::set<uint64_t> known_of(const std::shared_ptr<KnownContent>& table, int value) {
  ContentFilter filter(table, kDisk.size_bytes);
  auto known = filter.known_blocks(0, filled(kDisk.size_bytes, value));
  REQUIRE(known.is_ok());
  std::set<uint64_t> blocks;
  for (uint64_t block = 0; block < known.value().size(); ++block) {
    if (known.value()[block]) blocks.insert(block);
  }
  return blocks;
}

// These blocks hold the value in the point.
Status learn(const std::shared_ptr<KnownContent>& table, const Uuid& point,
             const std::vector<uint64_t>& blocks, int value) {
  ContentFilter filter(table, blocks.size() * kBlock);
  for (const uint64_t block : blocks) {
    REQUIRE(filter.known_blocks(block * kBlock, filled(kBlock, value)).is_ok());
  }
  return filter.settle(point);
}

const Scene* watched = nullptr;
int passages = 0;

// As a crash here would leave it.
void keep_copy(std::string_view name) noexcept {
  if (!name.starts_with("known")) return;
  ++passages;
  std::filesystem::copy_file(watched->path, watched->path + "." + std::to_string(passages));
}

}  // namespace

TEST_CASE("a new table knows nothing, and afterwards what was read of the point") {
  const Scene scene;
  const auto table = scene.open();
  CHECK(table->point().is_nil());
  CHECK(known_of(table, 5).empty());
  REQUIRE(learn(table, kOne, {3, 4, 9}, 5).is_ok());
  CHECK(table->point() == kOne);
  CHECK(known_of(table, 5) == std::set<uint64_t>{3, 4, 9});
  CHECK(known_of(table, 6).empty());
  REQUIRE(learn(table, kTwo, {4, 10}, 6).is_ok());
  CHECK(known_of(table, 5) == std::set<uint64_t>{3, 9});
  CHECK(known_of(table, 6) == std::set<uint64_t>{4, 10});
}

TEST_CASE("a table is found again by the same boot, of the same disk alone") {
  const Scene scene;
  REQUIRE(learn(scene.open(), kOne, {3}, 5).is_ok());
  CHECK(scene.open()->point() == kOne);
  CHECK(known_of(scene.open(), 5) == std::set<uint64_t>{3});
  for (const KnownDisk& other : {KnownDisk{{{2}}, kDisk.size_bytes, kBlock},
                                 KnownDisk{kDisk.disk, kDisk.size_bytes + 1, kBlock},
                                 KnownDisk{kDisk.disk, kDisk.size_bytes, 2 * kBlock}}) {
    const Scene copy;
    std::filesystem::copy_file(scene.path, copy.path);
    CHECK(copy.open(other)->point().is_nil());
    CHECK(copy.open(kDisk)->point().is_nil());
  }
}

TEST_CASE("a header with any bit flipped, or cut short, is of no point") {
  const Scene scene;
  REQUIRE(learn(scene.open(), kOne, {3}, 5).is_ok());
  for (uint64_t at = 0; at < 512; at += 3) {
    const Scene copy;
    std::filesystem::copy_file(scene.path, copy.path);
    const UniqueFd fd(::open(copy.path.c_str(), O_RDWR | O_CLOEXEC));
    std::byte byte{};
    REQUIRE(::pread(fd.get(), &byte, 1, static_cast<off_t>(at)) == 1);
    byte ^= std::byte{0x10};
    REQUIRE(::pwrite(fd.get(), &byte, 1, static_cast<off_t>(at)) == 1);
    CHECK(copy.open()->point().is_nil());
  }
  std::filesystem::resize_file(scene.path, 300);
  CHECK(scene.open()->point().is_nil());
}

TEST_CASE("G9: a process that dies at any step leaves the point before, the next, or none") {
  const Scene scene;
  const auto table = scene.open();
  REQUIRE(learn(table, kOne, {3, 4, 9}, 5).is_ok());
  std::filesystem::copy_file(scene.path, scene.path + ".0");
  watched = &scene;
  passages = 0;
  observe_failpoints(keep_copy);
  REQUIRE(learn(table, kTwo, {4, 9, 20}, 6).is_ok());
  observe_failpoints(nullptr);
  CHECK(passages == 5);
  for (int copy = 0; copy <= passages; ++copy) {
    const auto found = KnownContent::open(scene.path + "." + std::to_string(copy), kDisk);
    REQUIRE(found.is_ok());
    CHECK(found.value()->point() == (copy == 0 ? kOne : Uuid{}));
    CHECK(known_of(found.value(), 5).size() == (copy == 0 ? 3 : 0));
    CHECK(known_of(found.value(), 6).empty());
  }
}

TEST_CASE("after a table that could not be written nothing is known, until it begins anew") {
  const Scene scene;
  const auto table = scene.open();
  REQUIRE(learn(table, kOne, {3, 4}, 5).is_ok());
  ::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  const rlimit small{4096 + 10 * sizeof(BlockHash), before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  const Status status = learn(table, kTwo, {3, 40}, 6);
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &before) == 0);
  CHECK_FALSE(status.is_ok());
  CHECK(table->point().is_nil());
  CHECK(scene.open()->point().is_nil());
  REQUIRE(learn(table, kTwo, {7}, 7).is_ok());
  REQUIRE(learn(table, kTwo, {8}, 7).is_ok());
  CHECK(known_of(table, 6).empty());
  CHECK(known_of(table, 7) == std::set<uint64_t>{8});
}

TEST_CASE("a capture of which not all was read teaches nothing, and what was known goes") {
  const Scene scene;
  const auto table = scene.open();
  REQUIRE(learn(table, kOne, {3}, 5).is_ok());
  ContentFilter filter(table, 2 * kBlock);
  REQUIRE(filter.known_blocks(7 * kBlock, filled(kBlock, 6)).is_ok());
  REQUIRE(filter.known_blocks(7 * kBlock, filled(kBlock, 6)).is_ok());
  REQUIRE(filter.settle(kTwo).is_ok());
  CHECK(table->point().is_nil());
  CHECK(known_of(table, 5).empty());
  CHECK(known_of(table, 6).empty());
}

TEST_CASE("what was read for a delta that is given up teaches nothing, nor does a late reader") {
  const Scene scene;
  const auto table = scene.open();
  REQUIRE(learn(table, kOne, {3}, 5).is_ok());
  ContentFilter filter(table, kBlock);
  REQUIRE(filter.known_blocks(3 * kBlock, filled(kBlock, 6)).is_ok());
  filter.drop();
  CHECK(filter.known_blocks(3 * kBlock, filled(kBlock, 5)).status().code() == ErrorCode::kClosed);
  CHECK(table->point() == kOne);
  CHECK(known_of(table, 5) == std::set<uint64_t>{3});
}

TEST_CASE("what is read to travel leaves out known blocks, and only these") {
  ScratchDirectory scratch;
  const Disk disk = make_disk(scratch, make_memory_device(kDisk.size_bytes));
  const uint32_t slot = add_target(*disk.device);
  const Scene scene;
  const auto table = scene.open();
  REQUIRE(learn(table, kOne, {2, 5, 6, 63}, 5).is_ok());
  REQUIRE(write_sync(*disk.device, kBlock, filled(7 * kBlock, 5)).is_ok());
  REQUIRE(write_sync(*disk.device, 60 * kBlock, filled(kDisk.size_bytes - 60 * kBlock, 5)).is_ok());
  const auto capture = checkpoint(disk.device, slot);
  ContentFilter filter(table, capture->dirty_bytes());
  const std::vector<ByteExtent> extents{{kBlock, 7 * kBlock},
                                        {60 * kBlock, kDisk.size_bytes - 60 * kBlock}};
  Bytes buffer(16 * kBlock);
  const auto runs = read_changed_runs(*capture, &filter, extents, buffer, 24);
  REQUIRE(runs.is_ok());
  std::string text;
  for (const ChangedRun& run : runs.value()) {
    text += std::to_string(run.offset_bytes / kBlock) + "+" + std::to_string(run.length_bytes) +
            "@" + std::to_string(run.position_bytes) + " ";
    const Bytes content(
        buffer.begin() + static_cast<ptrdiff_t>(run.position_bytes),
        buffer.begin() + static_cast<ptrdiff_t>(run.position_bytes + run.length_bytes));
    CHECK(is_all(content, 5));
  }
  // The last block is not whole, and not what a whole one hashes to.
  CHECK(text == "1+4096@24 3+8192@8216 7+4096@24600 60+15384@28720 ");
  REQUIRE(filter.settle(kTwo).is_ok());
  CHECK(known_of(table, 5) == std::set<uint64_t>{1, 2, 3, 4, 5, 6, 7, 60, 61, 62, 63});
}
