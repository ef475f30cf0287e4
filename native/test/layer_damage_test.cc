// What reads as other bytes than its checksum was made of is never handed on: not to a
// guest, not to a fold, not into a hash.
#include <doctest/doctest.h>

#include <algorithm>

#include "device/block_hashes.h"
#include "fold_scene.h"
#include "layers/open_layered_device.h"

using namespace tidemark;

namespace {

constexpr uint64_t kSize = 256 * 1024;
constexpr uint32_t kGranularity = 16 * 1024;

// Two layers: all of the disk, and above it one block.
struct DamagedScene : FoldScene {
  static constexpr uint64_t kDamaged = 5 * kGranularity;
  static constexpr uint64_t kOverlaid = 9 * kGranularity;

  explicit DamagedScene(std::mt19937_64& random)
      : FoldScene(random, kSize, kGranularity, 0, kSize) {
    LayerModel all{{kDisk, uuid_of(2), 1, kSize, kGranularity}, {}};
    for (uint64_t at = 0; at < kSize; at += kGranularity) {
      all.blocks[at] = random_content(random, kGranularity);
    }
    add(all, random);
    LayerModel one{{kDisk, uuid_of(2), 2, kSize, kGranularity}, {}};
    one.blocks[kOverlaid] = random_content(random, kGranularity);
    const LayerBytes below(all.blocks[kOverlaid]);
    add(one, random);
    flip(layer_paths[0], all.blocks[kDamaged]);
    flip(layer_paths[0], below);
  }

 private:
  void add(const LayerModel& model, std::mt19937_64& random) {
    const std::string path = directory.path() + "/" + std::to_string(layer_paths.size()) + ".layer";
    parameters.layers.push_back(make_layer(path, model, random));
    layer_paths.push_back(path);
    model.apply_to(disk);
  }

  // In place, as storage does it: who has the file open sees it.
  static void flip(const std::string& path, const LayerBytes& content) {
    const LayerBytes bytes = read_file(path);
    const auto at = std::search(bytes.begin(), bytes.end(), content.begin(), content.end());
    REQUIRE(at != bytes.end());
    const auto offset = at - bytes.begin() + static_cast<ptrdiff_t>(kGranularity) - 1;
    std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(offset);
    file.put(static_cast<char>(bytes[static_cast<size_t>(offset)] ^ std::byte{1}));
    REQUIRE(file.good());
  }
};

bool reads_right(BlockDevice& device, const LayerBytes& disk, uint64_t offset, uint64_t length) {
  LayerBytes seen(length);
  const Status status = read_sync(device, offset, seen);
  if (!status.is_ok()) {
    CHECK(status.code() == ErrorCode::kCorrupt);
    return false;
  }
  REQUIRE(std::equal(seen.begin(), seen.end(), disk.begin() + static_cast<ptrdiff_t>(offset)));
  return true;
}

bool touches(uint64_t offset, uint64_t length, uint64_t granule_offset) {
  return offset < granule_offset + kGranularity && granule_offset < offset + length;
}

bool touches_damage(uint64_t offset, uint64_t length) {
  return touches(offset, length, DamagedScene::kDamaged);
}

}  // namespace

TEST_CASE("a read of a damaged block of a layer fails, and every other read is right") {
  std::mt19937_64 random(1);
  DamagedScene scene(random);
  const auto device = scene.open();
  int failed = 0;
  for (int i = 0; i < 2000; ++i) {
    const uint64_t offset = random() % kSize;
    const uint64_t length = 1 + random() % std::min<uint64_t>(kSize - offset, 3 * kGranularity);
    const bool is_right = reads_right(*device, scene.disk, offset, length);
    CHECK(is_right != touches_damage(offset, length));
    failed += is_right ? 0 : 1;
  }
  CHECK(failed > 100);
  for (uint64_t at = 0; at < kSize; at += kGranularity) {
    CHECK(reads_right(*device, scene.disk, at, kGranularity) != touches_damage(at, kGranularity));
  }
}

TEST_CASE("a damaged block that is written whole is there again; a part of it cannot be") {
  std::mt19937_64 random(2);
  DamagedScene scene(random);
  const auto device = scene.open();
  const LayerBytes part = random_content(random, 512);
  CHECK(write_sync(*device, DamagedScene::kDamaged + 512, part).code() == ErrorCode::kCorrupt);
  CHECK_FALSE(reads_right(*device, scene.disk, DamagedScene::kDamaged, kGranularity));
  const LayerBytes whole = random_content(random, kGranularity);
  REQUIRE(write_sync(*device, DamagedScene::kDamaged, whole).is_ok());
  std::ranges::copy(whole, scene.disk.begin() + DamagedScene::kDamaged);
  check_content(*device, scene.disk);
}

TEST_CASE("a fold stops at a damaged block, and goes on once that was written") {
  std::mt19937_64 random(3);
  DamagedScene scene(random);
  const auto device = scene.open();
  auto fold = scene.fold(device);
  const Status status = fold->finish();
  CHECK(status.code() == ErrorCode::kCorrupt);
  CHECK(status.message().find("at disk offset 65536 ") != std::string::npos);
  CHECK_FALSE(reads_right(*device, scene.disk, DamagedScene::kDamaged, kGranularity));
  const LayerBytes whole = random_content(random, kGranularity);
  REQUIRE(write_sync(*device, DamagedScene::kDamaged, whole).is_ok());
  std::ranges::copy(whole, scene.disk.begin() + DamagedScene::kDamaged);
  REQUIRE(fold->finish().is_ok());
  scene.check_base();
}

TEST_CASE("the hash of a damaged block is that of nothing, and the others are as they were") {
  std::mt19937_64 random(4);
  DamagedScene scene(random);
  const auto device = scene.open();
  const auto whole = memory_with(scene.disk);
  const HashExtent all[] = {{0, kSize}};
  for (const uint64_t block_bytes : {uint64_t{4096}, uint64_t{kGranularity}}) {
    const auto seen = hash_blocks(*device, all, block_bytes).value();
    auto expected = hash_blocks(*whole, all, block_bytes).value();
    constexpr size_t kHashBytes = 32;
    const auto from = expected.begin() +
                      static_cast<ptrdiff_t>(DamagedScene::kDamaged / block_bytes * kHashBytes);
    std::fill_n(from, kGranularity / block_bytes * kHashBytes, std::byte{0});
    CHECK((seen == expected));
  }
}
