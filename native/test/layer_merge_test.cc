// Layers that become one: the result is what the layers held one over the other, by a model
// that knows no layers; what rotted is refused.
#include "layers/layer_merge.h"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include "layer_builder.h"
#include "scratch_file.h"

using namespace tidemark;

namespace {

constexpr std::byte kBelow{0xEE};

// Layers of one disk, oldest first, and their models.
struct LayerRow {
  ScratchDirectory directory;
  std::vector<LayerModel> models;
  std::vector<std::string> paths;
  uint64_t largest_bytes = 0;

  void add(std::mt19937_64& random, uint64_t size_bytes, uint32_t granularity) {
    const LayerIdentity identity{uuid_of(1), uuid_of(2), models.size() + 1, size_bytes,
                                 granularity};
    models.push_back(LayerModel::random_model(random, identity));
    paths.push_back(directory.path() + "/" + std::to_string(models.size()) + ".layer");
    (void)make_layer(paths.back(), models.back(), random);
    largest_bytes = std::max(largest_bytes, size_bytes);
  }

  // Oldest first, over `disk`.
  void apply_to(LayerBytes& disk) const {
    for (const LayerModel& model : models) model.apply_to(disk);
  }
};

// Sizes that change by whole blocks, or one size with a partial last block.
void fill(LayerRow& row, std::mt19937_64& random) {
  const uint32_t coarsest = 4096;
  const bool resized = random() % 2 == 0;
  const uint64_t size_bytes = coarsest * (1 + random() % 40) + (resized ? 0 : random() % coarsest);
  const size_t count = 1 + random() % 9;
  for (size_t i = 0; i < count; ++i) {
    const uint32_t granularity = resized ? 1024U << (random() % 3) : coarsest;
    row.add(random, resized ? coarsest * (1 + random() % 40) : size_bytes, granularity);
  }
}

LayerSummary run_merge(LayerMerge& merge, std::mt19937_64& random) {
  for (;;) {
    const auto more = merge.step(1 + random() % 30000);
    REQUIRE_MESSAGE(more.is_ok(), more.status().message());
    if (!more.value()) break;
  }
  const auto summary = merge.finish();
  REQUIRE_MESSAGE(summary.is_ok(), summary.status().message());
  return summary.value();
}

void paint(const Layer& layer, LayerBytes& disk) {
  for (uint64_t at = 0; at < disk.size();) {
    const Layer::Run run = layer.find(at, disk.size() - at);
    const auto part = std::span(disk).subspan(at, run.length_bytes);
    if (run.present && run.zero) std::fill(part.begin(), part.end(), std::byte{0});
    if (run.present && !run.zero) {
      REQUIRE(::pread(layer.fd(), part.data(), part.size(),
                      static_cast<off_t>(run.file_offset_bytes)) ==
              static_cast<ssize_t>(part.size()));
    }
    at += run.length_bytes;
  }
}

std::unique_ptr<LayerMerge> merge_row(const LayerRow& row, const std::string& path) {
  const LayerIdentity identity{uuid_of(1), uuid_of(3), 99, row.largest_bytes, 4096};
  auto merge = LayerMerge::into_layer(path, identity, row.paths);
  REQUIRE_MESSAGE(merge.is_ok(), merge.status().message());
  return std::move(merge).value();
}

void flip(const std::string& path, size_t at) {
  LayerBytes bytes = read_file(path);
  bytes[at] ^= std::byte{4};
  write_file(path, bytes);
}

}  // namespace

TEST_CASE("G5: merged layers hold what the layers held, newest over oldest") {
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    LayerRow row;
    fill(row, random);
    const std::string path = row.directory.path() + "/merged.layer";
    const LayerSummary summary = run_merge(*merge_row(row, path), random);
    const auto merged = open_layer(path, uuid_of(1));
    CHECK(merged->verify().is_ok());
    CHECK(merged->summary().checksum == summary.checksum);
    CHECK(merged->identity().sequence == 99);
    LayerBytes expected(row.largest_bytes + 5000, kBelow);
    LayerBytes found = expected;
    row.apply_to(expected);
    paint(*merged, found);
    REQUIRE(found == expected);
  }
}

TEST_CASE("G5: the base holds what it held under the layers, up to the disk's size") {
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    LayerRow row;
    fill(row, random);
    const std::string path = row.directory.path() + "/base.raw";
    const LayerBytes before = random_content(random, row.largest_bytes + 7000);
    write_file(path, before);
    const uint64_t disk_size_bytes = row.models.back().identity.disk_size_bytes;
    const bool interrupted = random() % 2 == 0;
    if (interrupted) {
      auto merge = LayerMerge::into_base(path, uuid_of(1), disk_size_bytes, row.paths);
      REQUIRE(merge.value()->step(9000).is_ok());
    }
    auto merge = LayerMerge::into_base(path, uuid_of(1), disk_size_bytes, row.paths);
    REQUIRE(merge.is_ok());
    run_merge(*merge.value(), random);
    LayerBytes expected = before;
    row.apply_to(expected);
    std::copy(before.begin() + static_cast<ptrdiff_t>(disk_size_bytes), before.end(),
              expected.begin() + static_cast<ptrdiff_t>(disk_size_bytes));
    REQUIRE(read_file(path) == expected);
  }
}

TEST_CASE("zeroes of a layer are holes of the base") {
  LayerRow row;
  std::mt19937_64 random(5);
  row.models.push_back({{uuid_of(1), uuid_of(2), 1, 1 << 20, 4096}, {}});
  for (uint64_t block = 0; block < 128; ++block) row.models[0].blocks[block * 4096] = {};
  row.paths.push_back(row.directory.path() + "/zeroes.layer");
  (void)make_layer(row.paths[0], row.models[0], random);
  const std::string path = row.directory.path() + "/base.raw";
  write_file(path, random_content(random, 1 << 20));
  auto merge = LayerMerge::into_base(path, uuid_of(1), 1 << 20, row.paths);
  run_merge(*merge.value(), random);
  struct stat info;
  REQUIRE(::stat(path.c_str(), &info) == 0);
  CHECK(info.st_size == 1 << 20);
  CHECK(info.st_blocks * 512 <= (1 << 20) - 128 * 4096);
}

TEST_CASE(
    "T14: what rotted in a layer is refused by its name, wherever it is; what is hidden is not") {
  std::mt19937_64 random(6);
  LayerRow row;
  const LayerIdentity identity{uuid_of(1), uuid_of(2), 1, 8 * 4096, 4096};
  for (const uint64_t first : {0, 2}) {
    LayerModel model{identity, {}};
    for (uint64_t block = first; block < first + 4; ++block) {
      model.blocks[block * 4096] = random_content(random, 4096);
    }
    row.models.push_back(model);
    row.paths.push_back(row.directory.path() + "/" + std::to_string(first) + ".layer");
    (void)make_layer(row.paths.back(), model, random);
  }
  row.largest_bytes = identity.disk_size_bytes;
  // Blocks 2 and 3 of the first are hidden by the second.
  for (size_t layer = 0; layer < 2; ++layer) {
    for (size_t at = 0; at < 4 * 4096; at += 1777) {
      CAPTURE(layer);
      CAPTURE(at);
      const LayerBytes whole = read_file(row.paths[layer]);
      const auto sealed = open_layer(row.paths[layer], uuid_of(1));
      const uint64_t disk_offset = row.models[layer].blocks.begin()->first + at;
      flip(row.paths[layer], sealed->find(disk_offset, 1).file_offset_bytes);
      const std::string target = row.directory.path() + "/merged.layer";
      const auto more = merge_row(row, target)->step(1 << 20);
      const bool hidden = layer == 0 && at >= 2 * 4096;
      CHECK(more.is_ok() == hidden);
      if (!hidden) {
        CHECK(more.status().code() == ErrorCode::kCorrupt);
        CHECK(more.status().message().find(row.paths[layer]) != std::string::npos);
      }
      write_file(row.paths[layer], whole);
    }
  }
}

TEST_CASE("a disk that was resized within a block is left alone") {
  std::mt19937_64 random(7);
  LayerRow row;
  row.add(random, 5 * 4096, 4096);
  LayerModel odd{{uuid_of(1), uuid_of(2), 2, 3 * 4096 + 1000, 4096}, {}};
  odd.blocks[3 * 4096] = random_content(random, 1000);
  row.paths.push_back(row.directory.path() + "/odd.layer");
  (void)make_layer(row.paths.back(), odd, random);
  const LayerIdentity identity{uuid_of(1), uuid_of(3), 3, 5 * 4096, 4096};
  const auto merge = LayerMerge::into_layer(row.directory.path() + "/m", identity, row.paths);
  CHECK(merge.status().code() == ErrorCode::kUnsupported);
}

TEST_CASE("layers of another disk are refused") {
  std::mt19937_64 random(8);
  LayerRow row;
  row.add(random, 4096, 4096);
  const LayerIdentity identity{uuid_of(9), uuid_of(3), 3, 4096, 4096};
  const std::string path = row.directory.path() + "/m";
  CHECK(LayerMerge::into_layer(path, identity, row.paths).status().code() == ErrorCode::kForeign);
  CHECK(LayerMerge::into_base(path, uuid_of(9), 4096, row.paths).status().code() ==
        ErrorCode::kForeign);
}
