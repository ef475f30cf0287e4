// One target's captures one after another, in stores that some of them outgrow.
#include <doctest/doctest.h>

#include "tracking_support.h"

using namespace tidemark;
using namespace tidemark::tracking_test;

namespace {

constexpr uint64_t kBlocks = 64;

// A disk, what its target holds, and a guest that writes at random.
struct Story {
  explicit Story(uint64_t seed) : random(seed) {}

  void write_some(uint64_t count) {
    for (; count > 0; --count) {
      const uint64_t first = random() % kBlocks;
      const uint64_t length = 1 + random() % std::min<uint64_t>(3, kBlocks - first);
      write_blocks(*disk.device, first, length, static_cast<int>(1 + random() % 200));
    }
  }

  // Reads and releases in random portions; false when the capture broke on the way.
  bool copy(Capture& capture, const Bytes& at_cut, Bytes& image) {
    for (uint64_t from = 0;
         const auto extent = capture.next_extent(from, (1 + random() % 4) * kBlock);) {
      Bytes content(extent->length_bytes);
      const Status status = capture.read(extent->offset_bytes, content);
      if (!status.is_ok()) {
        CHECK(status.code() == ErrorCode::kCaptureBroken);
        return false;
      }
      const auto at = static_cast<std::ptrdiff_t>(extent->offset_bytes);
      REQUIRE(std::equal(content.begin(), content.end(), at_cut.begin() + at));
      std::copy(content.begin(), content.end(), image.begin() + at);
      if (random() % 2 == 0) capture.release(extent->offset_bytes, extent->length_bytes);
      from = extent->offset_bytes + extent->length_bytes;
      write_some(random() % 3);
    }
    return !capture.is_broken();
  }

  std::mt19937_64 random;
  ScratchDirectory scratch;
  Disk disk = make_disk(scratch, make_memory_device(kBlocks* kBlock));
  uint32_t slot = add_target(*disk.device);
};

}  // namespace

TEST_CASE("T20: captures in a row: whole or broken, and what a broken one had comes again") {
  uint64_t whole_count = 0;
  uint64_t broken_count = 0;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Story story(seed);
    Bytes held(kBlocks * kBlock);
    for (int round = 0; round < 40; ++round) {
      story.write_some(8);
      const Bytes at_cut = content_of(*story.disk.device);
      CaptureLimits limits;
      limits.memory_bytes = (3 + story.random() % 24) * kBlock;
      const auto capture = checkpoint(story.disk.device, story.slot, limits);
      Bytes image = held;
      if (story.copy(*capture, at_cut, image)) {
        REQUIRE(image == at_cut);
        capture->close();
        REQUIRE(story.disk.device->commit(story.slot).is_ok());
        held = std::move(image);
        ++whole_count;
      } else {
        capture->close();
        REQUIRE(story.disk.device->give_back(story.slot).is_ok());
        ++broken_count;
      }
    }
  }
  CHECK(whole_count > 100);
  CHECK(broken_count > 100);
}
