// What the tests of LayeredDevice share: a base with layers and its content, and
// random changes of a device beside a model.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "device/memory_device.h"
#include "device/sync_io.h"
#include "layer_builder.h"
#include "layers/open_layered_device.h"
#include "scratch_file.h"

namespace tidemark {

inline const Uuid kDisk = uuid_of(1);

inline std::shared_ptr<BlockDevice> memory_with(const LayerBytes& content) {
  auto device = make_memory_device(content.size());
  REQUIRE(write_sync(*device, 0, content).is_ok());
  return device;
}

inline std::shared_ptr<LayeredDevice> open_device(const LayeredDeviceParameters& parameters) {
  auto device = open_layered_device(parameters);
  REQUIRE_MESSAGE(device.is_ok(), device.status().message());
  return device.value();
}

// A base, layers of it, and what a disk of them holds.
struct Chain {
  ScratchDirectory directory;
  LayeredDeviceParameters parameters;
  LayerBytes disk;
  std::vector<std::string> layer_paths;

  Chain(std::mt19937_64& random, uint64_t size, uint32_t granularity, size_t layer_count)
      : Chain(random, size, granularity, layer_count,
              random_content(random, std::max<uint64_t>(1, size / 2 + random() % size))) {}

  Chain(std::mt19937_64& random, uint64_t size, uint32_t granularity, size_t layer_count,
        const LayerBytes& base) {
    parameters.disk = kDisk;
    parameters.size_bytes = size;
    parameters.granularity_bytes = granularity;
    parameters.base = memory_with(base);
    parameters.scratch_path = directory.path() + "/scratch";
    disk = base;
    disk.resize(std::max<uint64_t>(size, base.size()));
    for (size_t i = 0; i < layer_count; ++i) add_layer(random, size, granularity);
    disk.resize(size);
  }

  // Layers may be of another granularity, and of the disk at another size.
  void add_layer(std::mt19937_64& random, uint64_t size, uint32_t granularity) {
    LayerIdentity identity{kDisk, uuid_of(2), layer_paths.size() + 1, size, granularity};
    if (random() % 4 == 0) identity.granularity_bytes = granularity * 2;
    if (random() % 4 == 0) identity.disk_size_bytes = 1 + random() % (2 * size);
    disk.resize(std::max<uint64_t>(disk.size(), identity.disk_size_bytes));
    const LayerModel model = LayerModel::random_model(random, identity);
    model.apply_to(disk);
    const std::string path = directory.path() + "/" + std::to_string(layer_paths.size()) + ".layer";
    parameters.layers.push_back(make_layer(path, model, random));
    layer_paths.push_back(path);
  }

  std::vector<LayerBytes> layer_files() const {
    std::vector<LayerBytes> files;
    for (const std::string& path : layer_paths) files.push_back(read_file(path));
    return files;
  }
};

inline void check_content(BlockDevice& device, const LayerBytes& expected) {
  LayerBytes seen(device.size_bytes());
  REQUIRE(read_sync(device, 0, seen).is_ok());
  const auto differs = std::mismatch(seen.begin(), seen.end(), expected.begin()).first;
  REQUIRE(differs - seen.begin() == static_cast<ptrdiff_t>(seen.size()));
}

inline void random_change(BlockDevice& device, LayerBytes& model, std::mt19937_64& random) {
  const uint64_t offset = random() % model.size();
  const uint64_t longest = random() % 10 == 0 ? model.size() : 20'000;
  const uint64_t length = 1 + random() % std::min<uint64_t>(longest, model.size() - offset);
  const auto at = model.begin() + static_cast<ptrdiff_t>(offset);
  const uint32_t fua = random() % 16 == 0 ? kIoFua : 0;
  const LayerBytes content = random_content(random, length);
  switch (random() % 4) {
    case 0:
      std::fill_n(at, length, std::byte{0});
      REQUIRE(trim_sync(device, offset, length).is_ok());
      break;
    case 1:
      std::fill_n(at, length, std::byte{0});
      REQUIRE(
          write_zeroes_sync(device, offset, length, fua | (random() % 2 ? kIoNoHole : 0)).is_ok());
      break;
    default:
      std::copy(content.begin(), content.end(), at);
      REQUIRE(write_sync(device, offset, content, fua).is_ok());
  }
}

}  // namespace tidemark
