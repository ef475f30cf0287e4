// Layers and disks for tests: contents that say where they are, layers made of
// them, files looked at and damaged as bytes.
#pragma once

#include <doctest/doctest.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "common/uuid.h"
#include "layers/layer.h"

namespace tidemark {

using LayerBytes = std::vector<std::byte>;

inline Uuid uuid_of(uint8_t number) {
  Uuid uuid;
  uuid.bytes.fill(number);
  return uuid;
}

inline LayerBytes random_content(std::mt19937_64& random, size_t size) {
  LayerBytes bytes(size);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random() >> 56);
  return bytes;
}

inline LayerBytes read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  REQUIRE(file.good());
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  LayerBytes bytes(text.size());
  std::memcpy(bytes.data(), text.data(), text.size());
  return bytes;
}

inline void write_file(const std::string& path, const LayerBytes& bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
  REQUIRE(file.good());
}

// What one layer says: of each block nothing, its content, or (empty) zero.
struct LayerModel {
  LayerIdentity identity;
  std::map<uint64_t, LayerBytes> blocks;  // by disk offset; empty content: zero

  size_t length_at(uint64_t offset) const {
    return std::min<uint64_t>(identity.granularity_bytes, identity.disk_size_bytes - offset);
  }

  void apply_to(LayerBytes& disk) const {
    for (const auto& [offset, content] : blocks) {
      for (size_t i = 0; i < length_at(offset) && offset + i < disk.size(); ++i) {
        disk[offset + i] = content.empty() ? std::byte{0} : content[i];
      }
    }
  }

  static LayerModel random_model(std::mt19937_64& random, const LayerIdentity& identity) {
    LayerModel model;
    model.identity = identity;
    const unsigned density = 1 + random() % 8;
    for (uint64_t at = 0; at < identity.disk_size_bytes; at += identity.granularity_bytes) {
      // Runs, so that there is something to join.
      const bool go_on = model.blocks.contains(at - identity.granularity_bytes);
      if (go_on ? random() % 4 == 0 : random() % 8 >= density) continue;
      const bool zero = random() % 4 == 0;
      model.blocks[at] = zero ? LayerBytes{} : random_content(random, model.length_at(at));
    }
    return model;
  }
};

// Writes the model in `segment_count` segments, the blocks dealt out in runs.
inline std::vector<LayerBytes> write_segments(const std::string& path, const LayerModel& model,
                                              size_t segment_count, std::mt19937_64& random) {
  const uint64_t capacity = model.identity.disk_size_bytes;
  std::vector<std::unique_ptr<LayerSegmentWriter>> writers;
  for (size_t i = 0; i < segment_count; ++i) {
    auto writer = LayerSegmentWriter::open(path, kLayerDataOffset + i * capacity, capacity,
                                           model.identity.granularity_bytes);
    REQUIRE(writer.is_ok());
    writers.push_back(std::move(writer).value());
  }
  size_t writer = 0;
  for (const auto& [offset, content] : model.blocks) {
    if (random() % 5 == 0) writer = random() % segment_count;
    const Status status = content.empty() ? writers[writer]->zero(offset, model.length_at(offset))
                                          : writers[writer]->append(offset, content);
    REQUIRE_MESSAGE(status.is_ok(), status.message());
  }
  std::vector<LayerBytes> blobs;
  for (auto& each : writers) {
    auto blob = each->finish();
    REQUIRE(blob.is_ok());
    blobs.push_back(std::move(blob).value());
  }
  return blobs;
}

inline std::shared_ptr<const Layer> open_layer(const std::string& path, const Uuid& disk) {
  auto layer = Layer::open(path, disk);
  REQUIRE_MESSAGE(layer.is_ok(), layer.status().message());
  return layer.value();
}

inline std::shared_ptr<const Layer> make_layer(const std::string& path, const LayerModel& model,
                                               std::mt19937_64& random) {
  const auto blobs = write_segments(path, model, 1 + random() % 4, random);
  const auto summary = seal_layer(path, model.identity, blobs);
  REQUIRE_MESSAGE(summary.is_ok(), summary.status().message());
  return open_layer(path, model.identity.disk);
}

}  // namespace tidemark
