#pragma once

#include "device/file_device.h"
#include "layered_scene.h"
#include "layers/fold.h"

namespace tidemark {

// A chain whose base is a file, or none at all (`base_bytes` 0).
struct FoldScene : Chain {
  std::string base_path = directory.path() + "/base";

  FoldScene(std::mt19937_64& random, uint64_t size, uint32_t granularity, size_t layer_count,
            uint64_t base_bytes)
      : FoldScene(random, size, granularity, layer_count,
                  base_bytes == 0 ? LayerBytes(size) : random_content(random, base_bytes),
                  base_bytes != 0) {}

  FoldScene(std::mt19937_64& random, uint64_t size, uint32_t granularity, size_t layer_count,
            const LayerBytes& base, bool has_base)
      : Chain(random, size, granularity, layer_count, base) {
    if (!has_base) return;
    write_file(base_path, base);
    parameters.base_path = base_path;
  }

  std::shared_ptr<LayeredDevice> open() {
    if (!parameters.base_path.empty()) {
      parameters.base = open_file_device({.path = base_path, .read_only = true}).value();
    }
    return open_device(parameters);
  }

  std::unique_ptr<Fold> fold(const std::shared_ptr<LayeredDevice>& device) {
    auto fold = Fold::open(device, base_path);
    REQUIRE_MESSAGE(fold.is_ok(), fold.status().message());
    parameters.base_path = base_path;  // from now on there is one
    return std::move(fold).value();
  }

  // By the bytes of the file alone.
  void check_base() const { REQUIRE((read_file(base_path) == disk)); }
};

}  // namespace tidemark
