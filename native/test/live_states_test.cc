#include "layers/live_states.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "device/memory_device.h"
#include "layers/granule_states.h"
#include "layers/scratch.h"
#include "layers/scratch_index.h"
#include "scratch_file.h"

namespace tidemark {
namespace {

constexpr uint64_t kGranules = 3 * GranuleStates::kGranulesPerPage;

// As a process that set these granules and died.
void leave_behind(const std::string& path, const Uuid& scratch, uint64_t first, uint64_t end) {
  auto live = LiveStates::create(path, scratch, kGranules);
  REQUIRE(live.is_ok());
  auto states =
      GranuleStates::create_in(live.value().fd(), LiveStates::kWordsOffsetBytes, kGranules);
  REQUIRE(states.is_ok());
  states.value()->set(first, end, GranuleState::kData);
  REQUIRE(live.value().publish().is_ok());
}

TEST_CASE("What a process has left is what it set, and no more") {
  const ScratchDirectory directory;
  const std::string path = directory.path() + "/live";
  const Uuid scratch = Uuid::random();
  CHECK(LiveStates::left_behind(path, scratch, kGranules).value().empty());
  const uint64_t first = 2 * GranuleStates::kGranulesPerPage + 5;
  leave_behind(path, scratch, first, first + 3);
  const auto left = LiveStates::left_behind(path, scratch, kGranules).value();
  REQUIRE(left.size() == 1);
  CHECK(left[0].number == 2);
  auto states = GranuleStates::create(kGranules).value();
  CHECK(states->overlay_page(left[0].number, left[0].words.data()));
  CHECK(states->state_of(first - 1) == GranuleState::kBelow);
  CHECK(states->run_at(first, 100).count == 3);
  CHECK(states->dirty_page_count() == 1);
}

TEST_CASE("Of another scratch, another size or another boot nothing is believed") {
  const ScratchDirectory directory;
  const std::string path = directory.path() + "/live";
  const Uuid scratch = Uuid::random();
  leave_behind(path, scratch, 0, 1);
  REQUIRE(LiveStates::left_behind(path, scratch, kGranules).value().size() == 1);
  CHECK(LiveStates::left_behind(path, Uuid::random(), kGranules).value().empty());
  CHECK(LiveStates::left_behind(path, scratch, kGranules - 1).value().empty());
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(16);  // the boot
  file.put('x');
  file.close();
  CHECK(LiveStates::left_behind(path, scratch, kGranules).value().empty());
}

TEST_CASE("A scratch goes on with what a process that died had not flushed") {
  const ScratchDirectory directory;
  const std::string path = directory.path() + "/live";
  const std::string kept = directory.path() + "/kept";
  ScratchIdentity identity;
  identity.disk = Uuid::random();
  identity.size_bytes = 4096 * kGranules;
  identity.granularity_bytes = 4096;
  auto data = make_memory_device(identity.size_bytes);
  auto index = make_memory_device(ScratchGeometry::of(identity).file_bytes());
  REQUIRE(ScratchIndex::format(*index, identity, "Cannot make it").is_ok());
  {
    auto scratch = Scratch::open(data, index, identity, "Cannot open it", path).value();
    scratch->states().set(7, 9, GranuleState::kData);
    std::filesystem::copy_file(path, kept);
  }
  CHECK(std::filesystem::exists(path));  // it was not flushed
  std::filesystem::rename(kept, path);
  {
    auto again = Scratch::open(data, index, identity, "Cannot open it", path).value();
    CHECK(again->states().run_at(7, 100).count == 2);
    CHECK(again->states().state_of(7) == GranuleState::kData);
    CHECK(again->states().dirty_page_count() == 1);
  }
  std::filesystem::remove(path);
  auto without = Scratch::open(data, index, identity, "Cannot open it", path).value();
  CHECK(without->states().state_of(7) == GranuleState::kBelow);
}

TEST_CASE("What is all in the index is not left behind") {
  const ScratchDirectory directory;
  const std::string path = directory.path() + "/live";
  ScratchIdentity identity;
  identity.disk = Uuid::random();
  identity.size_bytes = 1 << 20;
  identity.granularity_bytes = 4096;
  auto data = make_memory_device(identity.size_bytes);
  auto index = make_memory_device(ScratchGeometry::of(identity).file_bytes());
  REQUIRE(ScratchIndex::format(*index, identity, "Cannot make it").is_ok());
  { const auto scratch = Scratch::open(data, index, identity, "Cannot open it", path).value(); }
  CHECK_FALSE(std::filesystem::exists(path));
}

}  // namespace
}  // namespace tidemark
