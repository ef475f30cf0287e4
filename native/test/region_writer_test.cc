// Regions of one file that are written side by side, beside a plain string that says what the file
// must hold: direct and through the page cache, wherever regions begin and end.
#include "layers/region_writer.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <random>

#include "scratch_file.h"

using namespace tidemark;

namespace {

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

struct Region {
  RegionWriter writer;
  uint64_t offset_bytes;
  std::string content;
  size_t appended_bytes = 0;
};

std::string random_bytes(std::mt19937& random, size_t length_bytes) {
  std::string bytes(length_bytes, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

// Lengths around the page and the writer's buffer, and any other.
size_t random_length(std::mt19937& random) {
  constexpr size_t kNear[] = {4096, 8192, 1U << 20, 2U << 20};
  const size_t around = kNear[random() % 4] + random() % 3 - 1;
  return random() % 2 == 0 ? around : random() % (3U << 20) + 1;
}

std::vector<Region> open_regions(std::mt19937& random, const std::string& path, bool on_pages) {
  std::vector<Region> regions;
  uint64_t offset_bytes = on_pages ? 4096 : 512;
  for (int i = 0; i < 4; ++i) {
    auto writer = RegionWriter::open(path, offset_bytes, "Cannot write");
    REQUIRE(writer.is_ok());
    const size_t length_bytes = random_length(random);
    regions.push_back(
        {std::move(writer).value(), offset_bytes, random_bytes(random, length_bytes)});
    const uint64_t align_bytes = on_pages ? 4096 : 512;
    offset_bytes += (length_bytes + align_bytes - 1) / align_bytes * align_bytes;
  }
  return regions;
}

// In turns, in pieces of any length.
void append_all(std::mt19937& random, std::vector<Region>& regions) {
  for (bool any = true; any;) {
    any = false;
    for (Region& region : regions) {
      const size_t left_bytes = region.content.size() - region.appended_bytes;
      const size_t length_bytes = std::min<size_t>(left_bytes, random() % 300'000 + 1);
      const auto* bytes = region.content.data() + region.appended_bytes;
      REQUIRE(region.writer.append(std::as_bytes(std::span(bytes, length_bytes))).is_ok());
      region.appended_bytes += length_bytes;
      any = any || length_bytes < left_bytes;
    }
  }
}

void check_side_by_side(const std::string& path, bool on_pages, unsigned seed) {
  std::mt19937 random(seed);
  auto regions = open_regions(random, path, on_pages);
  append_all(random, regions);
  std::shuffle(regions.begin(), regions.end(), random);
  std::string expected;
  for (Region& region : regions) {
    REQUIRE(region.writer.finish().is_ok());
    const size_t end_bytes = region.offset_bytes + region.content.size();
    expected.resize(std::max(expected.size(), end_bytes));
    expected.replace(region.offset_bytes, region.content.size(), region.content);
    // Also between the others: what is read now must not hide what is written past the cache.
    const std::string found = read_file(path);
    CHECK(found.compare(region.offset_bytes, region.content.size(), region.content) == 0);
  }
  CHECK(read_file(path) == expected);
}

}  // namespace

TEST_CASE("Regions that are written side by side hold what was appended to each") {
  for (const char* directory : {"/var/tmp", "/dev/shm"}) {
    for (unsigned seed = 1; seed <= 12; ++seed) {
      CAPTURE(directory);
      CAPTURE(seed);
      const std::string path =
          std::string(directory) + "/region-writer-" + std::to_string(::getpid());
      check_side_by_side(path, seed % 2 == 0, seed);
      ::unlink(path.c_str());
    }
  }
}

TEST_CASE("A region that cannot be written says so") {
  CHECK_FALSE(RegionWriter::open("/nonexistent/layer", 4096, "Cannot write layer").is_ok());
  auto full = RegionWriter::open("/dev/full", 4096, "Cannot write layer");
  REQUIRE(full.is_ok());
  const std::string content(100, 'x');
  REQUIRE(full.value().append(std::as_bytes(std::span(content))).is_ok());
  const Status status = full.value().finish();
  CHECK(status.code() == ErrorCode::kNoSpace);
}

TEST_CASE("A write that fails on its way is answered by a later call") {
  const std::string content(3U << 20, 'x');
  const auto bytes = std::as_bytes(std::span(content));
  auto full = RegionWriter::open("/dev/full", 4096, "Cannot write layer");
  REQUIRE(full.is_ok());
  CHECK(full.value().append(bytes).code() == ErrorCode::kNoSpace);

  auto at_its_end = RegionWriter::open("/dev/full", 4096, "Cannot write layer");
  REQUIRE(at_its_end.is_ok());
  REQUIRE(at_its_end.value().append(bytes.first(1U << 20)).is_ok());
  CHECK(at_its_end.value().finish().code() == ErrorCode::kNoSpace);
}

TEST_CASE("A region may be given up or moved while it is being written") {
  const std::string path = "/var/tmp/region-writer-" + std::to_string(::getpid());
  const std::string content(2U << 20, 'x');
  for (int i = 0; i < 8; ++i) {
    auto first = RegionWriter::open(path, 4096, "Cannot write");
    auto second = RegionWriter::open(path, 4U << 20, "Cannot write");
    REQUIRE(first.is_ok());
    REQUIRE(second.is_ok());
    RegionWriter writer = std::move(first).value();
    REQUIRE(writer.append(std::as_bytes(std::span(content))).is_ok());
    writer = std::move(second).value();
    REQUIRE(writer.append(std::as_bytes(std::span(content))).is_ok());
    RegionWriter moved = std::move(writer);
    CHECK(moved.finish().is_ok());
  }
  CHECK(read_file(path).substr(4U << 20) == content);
  ::unlink(path.c_str());
}
