// A fold as its user sees it: on files, beside a naive model, with restarts, killed
// at every step, and what is refused.
#include "layers/fold.h"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <thread>

#include "device/fault_device.h"
#include "device_contract.h"
#include "fold_scene.h"
#include "spawn_tool.h"

using namespace tidemark;

namespace {

bool step(Fold& fold, uint64_t max_bytes) {
  const auto more = fold.step(max_bytes);
  REQUIRE_MESSAGE(more.is_ok(), more.status().message());
  return more.value();
}

// Whatever is asked of it once it is finished, and although the store has not noted
// yet that it is.
void check_finished(FoldScene& scene, std::shared_ptr<LayeredDevice> device,
                    std::unique_ptr<Fold> fold, std::mt19937_64& random) {
  for (uint64_t i = 0; i < 10; ++i) random_change(*device, scene.disk, random);
  check_content(*device, scene.disk);
  scene.check_base();
  fold.reset();
  device.reset();
  device = scene.open();
  check_content(*device, scene.disk);
  for (uint64_t i = 0; i < 5; ++i) random_change(*device, scene.disk, random);
  REQUIRE(scene.fold(device)->finish().is_ok());
  scene.check_base();
}

uint64_t base_size_for(std::mt19937_64& random, uint64_t size) {
  switch (random() % 4) {
    case 0:
      return 0;
    case 1:
      return size;
    case 2:
      return 1 + random() % size;
    default:
      return size + 1 + random() % size;
  }
}

}  // namespace

TEST_CASE("a disk that is folded while it is written to ends as one plain file, over restarts") {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    const uint32_t granularity = 512U << (random() % 8);
    const uint64_t size = granularity * (10 + random() % 60) + random() % granularity;
    FoldScene scene(random, size, granularity, random() % 6, base_size_for(random, size));
    const auto files_before = scene.layer_files();
    auto device = scene.open();
    for (uint64_t i = random() % 30; i > 0; --i) random_change(*device, scene.disk, random);
    auto fold = scene.fold(device);
    for (bool more = true; more;) {
      for (uint64_t i = random() % 4; i > 0; --i) random_change(*device, scene.disk, random);
      check_content(*device, scene.disk);
      more = step(*fold, 1 + random() % 100'000);
      check_content(*device, scene.disk);
      if (random() % 4 != 0) continue;
      REQUIRE(flush_sync(*device).is_ok());
      fold.reset();
      device.reset();
      device = scene.open();
      check_content(*device, scene.disk);
      fold = scene.fold(device);
      more = true;
    }
    for (uint64_t i = random() % 10; i > 0; --i) random_change(*device, scene.disk, random);
    const Status finished = fold->finish();
    REQUIRE_MESSAGE(finished.is_ok(), finished.message());
    scene.check_base();
    check_finished(scene, std::move(device), std::move(fold), random);
    CHECK(scene.layer_files() == files_before);
  }
}

TEST_CASE("zeroes of layers, scratch and guest become holes of the base") {
  std::mt19937_64 random(3);
  constexpr uint64_t kBlock = 65536;
  FoldScene scene(random, 64 * kBlock, kBlock, 0, 64 * kBlock);
  LayerModel model;
  model.identity = {kDisk, uuid_of(2), 1, 64 * kBlock, kBlock};
  for (uint64_t block = 0; block < 16; ++block) model.blocks[block * kBlock] = {};
  scene.parameters.layers = {make_layer(scene.directory.path() + "/zero", model, random)};
  model.apply_to(scene.disk);
  const auto zero = [&](uint64_t from, uint64_t to) {
    std::fill(scene.disk.begin() + static_cast<ptrdiff_t>(from * kBlock),
              scene.disk.begin() + static_cast<ptrdiff_t>(to * kBlock), std::byte{0});
  };
  const auto device = scene.open();
  REQUIRE(trim_sync(*device, 16 * kBlock, 16 * kBlock).is_ok());
  zero(16, 32);
  const auto fold = scene.fold(device);
  REQUIRE(write_zeroes_sync(*device, 32 * kBlock, 8 * kBlock).is_ok());
  REQUIRE(trim_sync(*device, 40 * kBlock, 8 * kBlock).is_ok());
  zero(32, 48);
  REQUIRE(fold->finish().is_ok());
  scene.check_base();
  struct stat info {};
  REQUIRE(::stat(scene.base_path.c_str(), &info) == 0);
  CHECK(static_cast<uint64_t>(info.st_blocks) * 512 < 17 * kBlock);
  std::vector<DeviceExtent> extents;
  REQUIRE(device->query_extents("base:allocation", 0, 48 * kBlock, 8, extents).is_ok());
  CHECK(extents[0].flags == (kExtentHole | kExtentZero));
  CHECK(extents[0].length_bytes == 48 * kBlock);
}

TEST_CASE("a fold reads nothing of what only the base has, however large the disk is") {
  std::mt19937_64 random(4);
  FoldScene scene(random, 1 << 20, 4096, 3, 0);
  scene.parameters.size_bytes = 1ULL << 40;
  scene.parameters.base = make_memory_device(1ULL << 40);
  scene.parameters.scratch_path = scene.directory.path() + "/large";
  const auto device = scene.open();
  const auto fold = scene.fold(device);
  REQUIRE(fold->finish().is_ok());
  struct stat info {};
  REQUIRE(::stat(scene.base_path.c_str(), &info) == 0);
  CHECK(info.st_size == 1LL << 40);
  CHECK(info.st_blocks * 512 <= 1 << 20);
}

TEST_CASE("a fold is refused beside another, into another base, and of what is read-only") {
  std::mt19937_64 random(5);
  FoldScene scene(random, 40 * 4096, 4096, 2, 40 * 4096);
  {
    auto read_only = scene.parameters;
    read_only.scratch_path.clear();
    CHECK(Fold::open(open_device(read_only), scene.base_path).status().code() ==
          ErrorCode::kReadOnly);
  }
  const auto device = scene.open();
  CHECK(Fold::open(device, scene.base_path + "x").status().code() == ErrorCode::kInvalidArgument);
  {
    const auto fold = scene.fold(device);
    CHECK(Fold::open(device, scene.base_path).status().code() == ErrorCode::kInUse);
    auto other = scene.parameters;
    other.scratch_path += "-2";
    const auto other_device = open_device(other);
    CHECK(Fold::open(other_device, scene.base_path).status().code() == ErrorCode::kInUse);
    check_content(*other_device, scene.disk);
    CHECK(open_layered_device(scene.parameters).status().code() == ErrorCode::kInUse);
  }
  REQUIRE(scene.fold(device)->finish().is_ok());
  scene.check_base();
}

TEST_CASE("a disk without a base is folded into a new file, or one that holds nothing") {
  std::mt19937_64 random(6);
  FoldScene scene(random, 40 * 4096, 4096, 2, 0);
  const auto device = scene.open();
  write_file(scene.base_path, random_content(random, 4096));
  CHECK(Fold::open(device, scene.base_path).status().code() == ErrorCode::kAlreadyExists);
  REQUIRE(::unlink(scene.base_path.c_str()) == 0);
  write_file(scene.base_path, {});
  REQUIRE(scene.fold(device)->finish().is_ok());
  scene.check_base();
}

namespace {

// Left in the middle of its fold, closed.
struct HalfFolded {
  std::mt19937_64 random{7};
  FoldScene scene{random, 64 * 4096, 4096, 3, 20 * 4096};
  const std::string path = scene.parameters.scratch_path;

  HalfFolded() {
    const auto device = scene.open();
    for (int i = 0; i < 20; ++i) random_change(*device, scene.disk, random);
    const auto fold = scene.fold(device);
    REQUIRE(step(*fold, 8 * 4096));
    REQUIRE(flush_sync(*device).is_ok());
  }
  template <typename Change>
  ErrorCode code_with(Change change) const {
    LayeredDeviceParameters other = scene.parameters;
    change(other);
    return open_layered_device(other).status().code();
  }
  ErrorCode code_with_file(const std::string& suffix, const LayerBytes& bytes) const {
    const LayerBytes before = read_file(path + suffix);
    write_file(path + suffix, bytes);
    const ErrorCode code = code_with([](auto&) {});
    write_file(path + suffix, before);
    return code;
  }
  void finish() {
    const auto device = scene.open();
    check_content(*device, scene.disk);
    REQUIRE(scene.fold(device)->finish().is_ok());
    scene.check_base();
  }
};

}  // namespace

TEST_CASE("a disk whose fold has begun opens with its own layers and base alone") {
  HalfFolded t;
  CHECK(t.code_with([](auto& p) { p.layers.pop_back(); }) == ErrorCode::kForeign);
  CHECK(t.code_with([](auto& p) { p.layers.clear(); }) == ErrorCode::kForeign);
  CHECK(t.code_with([](auto& p) { p.size_bytes -= 4096; }) == ErrorCode::kForeign);
  CHECK(t.code_with([](auto& p) { p.disk = uuid_of(9); }) == ErrorCode::kForeign);
  CHECK(t.code_with([](auto& p) { p.base_path.clear(); }) == ErrorCode::kForeign);
  const std::string other_base = t.scene.directory.path() + "/other";
  write_file(other_base, LayerBytes(30 * 4096));
  CHECK(t.code_with([&](auto& p) { p.base_path = other_base; }) == ErrorCode::kForeign);
  t.finish();
}

TEST_CASE("a disk whose fold has begun opens with its own marks and frozen scratch alone") {
  HalfFolded t;
  const LayerBytes marks = read_file(t.path + ".marks");
  const LayerBytes frozen = read_file(t.path + ".frozen");
  CHECK(t.code_with_file(".marks", frozen) == ErrorCode::kForeign);
  LayerBytes newer = marks;
  newer[8] = std::byte{2};
  CHECK(t.code_with_file(".marks", newer) == ErrorCode::kVersion);
  LayerBytes damaged = marks;
  damaged[80] ^= std::byte{1};  // in the scratch's UUID
  CHECK(t.code_with_file(".marks", damaged) == ErrorCode::kCorrupt);
  // The index of another scratch of the same layers.
  LayeredDeviceParameters other = t.scene.parameters;
  other.scratch_path = t.path + "-2";
  other.base = memory_with(LayerBytes(20 * 4096));
  open_device(other).reset();
  CHECK(t.code_with_file(".frozen", read_file(t.path + "-2.index")) == ErrorCode::kForeign);
  REQUIRE(::unlink((t.path + ".marks").c_str()) == 0);
  CHECK(t.code_with([](auto&) {}) == ErrorCode::kCorrupt);
  write_file(t.path + ".marks", marks);
  REQUIRE(::unlink((t.path + ".frozen").c_str()) == 0);
  CHECK(t.code_with([](auto&) {}) == ErrorCode::kNotFound);
  write_file(t.path + ".frozen", frozen);
  t.finish();
}

TEST_CASE("a base that grew or shrank in the fold is still the one of before") {
  for (const uint64_t base_bytes : {10 * 4096, 90 * 4096}) {
    std::mt19937_64 random(8);
    FoldScene scene(random, 40 * 4096 + 5, 4096, 3, base_bytes);
    for (int round = 0; round < 2; ++round) {
      const auto device = scene.open();
      check_content(*device, scene.disk);
      REQUIRE(scene.fold(device)->finish().is_ok());
      scene.check_base();
    }
  }
}

namespace {

// Threads that write blocks which say who they are, until they are told to end. Four
// blocks of 4 KiB share a granule; each thread owns one of them.
class Guest {
 public:
  static constexpr uint64_t kBlocks = 256;

  explicit Guest(BlockDevice& device) : device_(device) {
    for (uint64_t i = 0; i < kWorkers; ++i) workers_.emplace_back([this, i] { work(i); });
  }
  // What is there then, on top of `disk`.
  void end(LayerBytes& disk) {
    ending_ = true;
    for (std::thread& worker : workers_) worker.join();
    CHECK(faults_ == 0);
    for (uint64_t block = 0; block < kBlocks; ++block) {
      std::byte* at = disk.data() + block * 4096;
      const uint64_t version = versions_[block];
      if (version == kTrimmed) std::fill_n(at, 4096, std::byte{0});
      if (version != 0 && version != kTrimmed) device_contract::describe_block(at, block, version);
    }
  }

 private:
  static constexpr uint64_t kWorkers = 4;
  static constexpr uint64_t kTrimmed = UINT64_MAX;

  void work(uint64_t worker) {
    std::mt19937_64 random(worker);
    for (uint64_t version = 1; !ending_; ++version) {
      const uint64_t block = random() % (kBlocks / kWorkers) * kWorkers + worker;
      const bool trims = version % 7 == 0;
      LayerBytes content(4096);
      if (!trims) device_contract::describe_block(content.data(), block, version);
      const Status status = trims ? trim_sync(device_, block * 4096, 4096)
                                  : write_sync(device_, block * 4096, content);
      faults_ += !status.is_ok();
      versions_[block] = trims ? kTrimmed : version;
      if (version % 64 == 0) faults_ += !flush_sync(device_).is_ok();
      LayerBytes seen(4096);
      faults_ += !read_sync(device_, block * 4096, seen).is_ok() || seen != content;
    }
  }

  BlockDevice& device_;
  std::array<std::atomic<uint64_t>, kBlocks> versions_{};
  std::atomic<int> faults_{0};
  std::atomic<bool> ending_{false};
  std::vector<std::thread> workers_;
};

}  // namespace

TEST_CASE("writes of many threads lose no byte to a fold, nor to its beginning and end") {
  std::mt19937_64 random(9);
  FoldScene scene(random, Guest::kBlocks * 4096, 16384, 4, 100 * 4096);
  const auto device = scene.open();
  Guest guest(*device);
  auto fold = scene.fold(device);
  while (step(*fold, 32768)) {
  }
  REQUIRE(fold->finish().is_ok());
  fold.reset();
  guest.end(scene.disk);
  scene.check_base();
}

TEST_CASE("a fold that is killed at any step is made good by going on") {
  const std::array names{"fold.marks_made",     "fold.frozen",         "fold.copied",
                         "fold.synced",         "fold.marked",         "fold.all_marked",
                         "fold.finished",       "scratch.data_synced", "scratch.journal_written",
                         "scratch.index_synced"};
  for (const char* name : names) {
    CAPTURE(name);
    for (int passage = 1, kills = 0;; passage += 1 + passage / 3) {
      CAPTURE(passage);
      std::mt19937_64 random(10);
      FoldScene scene(random, 64 * 4096, 4096, 0, 30 * 4096);
      const LayerIdentity identity{kDisk, uuid_of(2), 1, 64 * 4096, 4096};
      const LayerModel model = LayerModel::random_model(random, identity);
      scene.parameters.layers = {make_layer(scene.directory.path() + "/layer", model, random)};
      model.apply_to(scene.disk);
      {
        const auto device = scene.open();
        for (int i = 0; i < 10; ++i) random_change(*device, scene.disk, random);
        REQUIRE(flush_sync(*device).is_ok());
      }
      const bool ended = run_tool("layers_crash_tool", {"fold", scene.directory.path()},
                                  std::string(name) + ":" + std::to_string(passage));
      kills += ended ? 0 : 1;
      const auto device = scene.open();
      check_content(*device, scene.disk);
      REQUIRE(scene.fold(device)->finish().is_ok());
      scene.check_base();
      if (!ended) continue;
      CHECK(kills > 0);
      break;
    }
  }
}
