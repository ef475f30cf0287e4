// LayerMap against the layers themselves, asked one by one.
#include "layers/layer_map.h"

#include <doctest/doctest.h>

#include "layered_scene.h"

using namespace tidemark;

TEST_CASE("the map of many layers says of each byte what the newest layer that has it says") {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    const uint64_t size = 512 * (50 + random() % 50) + random() % 512;
    Chain chain(random, size, 512, random() % 12);
    const LayerMap map(chain.parameters.layers);
    for (uint64_t offset = 0; offset < size;) {
      const LayerMap::Run run = map.find(offset, size - offset);
      REQUIRE(run.length_bytes > 0);
      for (uint64_t at = offset; at < offset + run.length_bytes; at += 61) {
        const auto& layers = chain.parameters.layers;
        size_t newest = layers.size();
        while (newest > 0 && !layers[newest - 1]->find(at, 1).present) --newest;
        REQUIRE((run.piece == nullptr) == (newest == 0));
        if (newest == 0) continue;
        REQUIRE(run.piece->layer == newest - 1);
        REQUIRE(run.piece->zero == layers[newest - 1]->find(at, 1).zero);
      }
      offset += run.length_bytes;
    }
  }
}
