// The storage under a bitmap: the contract, on files and on the simulated one, and
// what the simulated one loses.
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <fstream>
#include <sstream>

#include "bitmap_storage_contract.h"
#include "bitmap_support.h"
#include "simulated_storage.h"

using namespace tidemark;
using namespace tidemark::simulation;
using storage_contract::make_file;
using storage_contract::World;

namespace {

World world_of(SimulatedStorage& storage) {
  return {storage, [](const std::string& name) { return name; }};
}

std::byte byte_at(SimulatedStorage& storage, const std::string& name, uint64_t offset_bytes) {
  std::byte byte{0xFF};
  auto file = storage.open(name);
  storage_contract::must(file.status());
  storage_contract::must(file.value()->read(offset_bytes, {&byte, 1}).status());
  return byte;
}

// Of this process's mappings of the file, what the kernel holds to be not written yet.
// By inode: a file that was made without a name shows none.
uint64_t dirty_bytes_of(const std::string& path) {
  struct stat found {};
  REQUIRE(::stat(path.c_str(), &found) == 0);
  const std::string inode = " " + std::to_string(found.st_ino) + " ";
  std::ifstream maps("/proc/self/smaps");
  uint64_t dirty_kib = 0;
  bool is_ours = false;
  for (std::string line; std::getline(maps, line);) {
    std::istringstream fields(line);
    std::string name;
    uint64_t kib = 0;
    fields >> name >> kib;
    if (name.find('-') != std::string::npos) is_ours = line.find(inode) != std::string::npos;
    if (is_ours && (name == "Shared_Dirty:" || name == "Private_Dirty:")) dirty_kib += kib;
  }
  return dirty_kib * 1024;
}

}  // namespace

TEST_CASE("files keep the contract of a bitmap's storage") {
  storage_contract::check_storage([](const auto& check) {
    TempDirectory directory;
    check(World{file_bitmap_storage(),
                [&](const std::string& name) { return directory.file(name); }});
  });
}

TEST_CASE("what is renewed is dirty to the kernel, page by page, but zeroes are not") {
  TempDirectory directory;
  struct statfs system {};
  REQUIRE(::statfs(directory.file(".").c_str(), &system) == 0);
  if (system.f_type == TMPFS_MAGIC) return;  // writes nothing back: all of it is dirty
  const World world{file_bitmap_storage(),
                    [&](const std::string& name) { return directory.file(name); }};
  const auto file = make_file(world, "b");
  file->data()[4096] = std::byte{1};
  file->data()[3 * 4096 + 4088] = std::byte{1};
  CHECK(dirty_bytes_of(world.path("b")) == 2 * 4096);
  require_ok(file->sync_all());
  CHECK(dirty_bytes_of(world.path("b")) == 0);
  file->renew(0, 8 * 4096);
  CHECK(dirty_bytes_of(world.path("b")) == 2 * 4096);
}

TEST_CASE("the simulated storage keeps the contract of a bitmap's storage") {
  storage_contract::check_storage([](const auto& check) {
    SimulatedStorage storage;
    check(world_of(storage));
  });
}

TEST_CASE("the simulated storage keeps everything when the process is killed") {
  SimulatedStorage storage;
  const auto file = make_file(world_of(storage), "b");
  file->data()[4096] = std::byte{1};
  const auto after = storage.after_process_crash();
  file->data()[4096] = std::byte{2};
  CHECK(byte_at(*after, "b", 4096) == std::byte{1});
  CHECK(after->boot() == storage.boot());
}

TEST_CASE("a power loss takes what was not synced, and only that") {
  SimulatedStorage storage;
  Random random(1);
  const auto file = make_file(world_of(storage), "b");
  file->data()[4096] = std::byte{1};
  file->data()[8192] = std::byte{1};
  require_ok(file->sync(8192, 1));
  const auto none = storage.after_power_loss(Loss::kAll, 0, random);
  CHECK(byte_at(*none, "b", 4096) == std::byte{0});
  CHECK(byte_at(*none, "b", 8192) == std::byte{1});
  CHECK_FALSE(none->boot() == storage.boot());
  const auto all = storage.after_power_loss(Loss::kSubset, ~0ULL, random);
  CHECK(byte_at(*all, "b", 4096) == std::byte{1});
}

TEST_CASE("a power loss may leave any content that a page had, and tear it") {
  SimulatedStorage storage;
  Random random(2);
  const auto file = make_file(world_of(storage), "b");
  std::vector<uint64_t> words(kPageBytes / 8, 0x0101010101010101);
  std::memcpy(file->data() + 4096, words.data(), kPageBytes);
  storage.observe();
  std::memset(file->data() + 4096, 2, kPageBytes);
  bool has_seen[3] = {};
  bool has_torn = false;
  for (int i = 0; i < 200; ++i) {
    const auto after = storage.after_power_loss(Loss::kTorn, 0, random);
    auto opened = after->open("b");
    std::vector<std::byte> page(kPageBytes);
    require_ok(opened.value()->read(4096, page).status());
    for (size_t at = 0; at < kPageBytes; ++at) {
      REQUIRE(page[at] == page[at / 8 * 8]);  // no word is torn
      has_torn = has_torn || page[at] != page[0];
      has_seen[static_cast<size_t>(page[at])] = true;
    }
  }
  CHECK(has_torn);
  CHECK((has_seen[0] && has_seen[1] && has_seen[2]));
}

TEST_CASE("a sector that was written whole is never torn") {
  SimulatedStorage storage;
  Random random(3);
  const auto file = make_file(world_of(storage), "b");
  const std::vector<std::byte> ones(kSectorBytes, std::byte{1});
  require_ok(file->write(0, ones));
  require_ok(file->write(kSectorBytes, ones));
  bool has_torn_page = false;
  for (int i = 0; i < 100; ++i) {
    const auto after = storage.after_power_loss(Loss::kTorn, 0, random);
    auto opened = after->open("b");
    std::vector<std::byte> both(2 * kSectorBytes);
    require_ok(opened.value()->read(0, both).status());
    for (size_t at = 0; at < both.size(); ++at)
      REQUIRE(both[at] == both[at / kSectorBytes * kSectorBytes]);
    has_torn_page = has_torn_page || both.front() != both.back();
  }
  CHECK(has_torn_page);
}

TEST_CASE("a name that was not synced may be lost with the power, in the order of changes") {
  SimulatedStorage storage;
  Random random(4);
  make_file(world_of(storage), "a");
  make_file(world_of(storage), "b");
  require_ok(storage.rename("b", "a"));
  CHECK(storage.after_power_loss(Loss::kAll, 0, random)->name_count() == 2);
  CHECK(storage.after_power_loss(Loss::kSubset, 1ULL << 63, random)->name_count() == 1);
  CHECK(storage.after_process_crash()->name_count() == 1);
  require_ok(storage.sync_directory("a"));
  CHECK(storage.after_power_loss(Loss::kAll, 0, random)->name_count() == 1);
}

TEST_CASE("any step of the simulated storage can fail, or pretend") {
  SimulatedStorage storage;
  Random random(5);
  const auto file = make_file(world_of(storage), "b");
  file->data()[0] = std::byte{1};
  storage.on_step = [](const StorageStep&) { return StepVerdict::kFails; };
  CHECK(file->sync(0, 1).code() == ErrorCode::kIo);
  CHECK(file->write(0, {}).code() == ErrorCode::kIo);
  CHECK(storage.open("b").status().code() == ErrorCode::kIo);
  storage.on_step = [](const StorageStep&) { return StepVerdict::kPretends; };
  require_ok(file->sync(0, 1));
  storage.on_step = nullptr;
  CHECK(byte_at(*storage.after_power_loss(Loss::kAll, 0, random), "b", 0) == std::byte{0});
}
