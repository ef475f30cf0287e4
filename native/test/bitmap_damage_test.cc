// T12, T14: a damaged, truncated, foreign or missing bitmap is refused with an
// error of its own, and is never an empty map.
#include <fstream>
#include <random>

#include "bitmap_support.h"

using namespace tidemark;

namespace {

constexpr uint64_t kSize = 100 * 4096 + 7;
constexpr uint64_t kFileBytes = (256 << 10) + 66 * 4096;

// A closed bitmap with a target, one block dirty.
std::string intact_file(const TempDirectory& directory) {
  const std::string path = directory.file("b");
  std::filesystem::remove(path);
  auto bitmap = create_bitmap(path, kSize);
  bitmap->mark_pending(add_target(*bitmap, kReplicaA), 0, 1);
  require_ok(bitmap->close());
  return path;
}

std::filesystem::path fixture_path(const std::string& folder, const std::string& name) {
  return std::filesystem::path(__FILE__).parent_path().parent_path().parent_path() / "test" /
         "fixtures" / "formats" / folder / name;
}

std::string copy_of_fixture(const TempDirectory& directory, const std::string& folder,
                            const std::string& name) {
  const std::string path = directory.file("b");
  std::filesystem::copy_file(fixture_path(folder, name), path);
  std::filesystem::permissions(path, std::filesystem::perms::owner_all);
  return path;
}

std::string bytes_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

struct NamedField {
  const char* name;
  uint64_t offset_bytes;
  uint64_t length_bytes;
};

// The table of docs/formats/bitmap.md; the last two are outside of the checksum.
constexpr NamedField kFields[] = {
    {"magic", 0, 8},          {"version", 8, 4},      {"flags", 12, 4},
    {"disk", 16, 16},         {"disk size", 32, 8},   {"block count", 40, 8},
    {"map bytes", 48, 8},     {"maps offset", 56, 8}, {"granularity", 64, 4},
    {"target limit", 68, 4},  {"lineage", 72, 16},    {"boot", 88, 16},
    {"sequence", 104, 8},     {"targets", 112, 256},  {"suspicion causes", 368, 32},
    {"fingerprint", 400, 76}, {"hand-over", 476, 16}, {"owner epoch", 492, 8},
    {"reserved", 500, 8},     {"checksum", 508, 4},   {"live index", 512, 8},
};

}  // namespace

TEST_CASE("T14: any one flipped bit in any field of the header is refused as corrupt") {
  TempDirectory directory;
  const std::string path = intact_file(directory);
  uint64_t covered_bytes = 0;
  for (const NamedField& field : kFields) {
    CAPTURE(field.name);
    CHECK(field.offset_bytes == covered_bytes);
    covered_bytes += field.length_bytes;
    for (uint64_t i = 0; i < field.length_bytes; ++i) {
      const auto bit = static_cast<unsigned>(i % 8);
      flip_bit(path, field.offset_bytes + i, bit);
      CHECK(open_error(path, kSize) == ErrorCode::kCorrupt);
      flip_bit(path, field.offset_bytes + i, bit);
    }
  }
  CHECK(open_bitmap(path, kSize)->opened_clean());
}

TEST_CASE("T14: a file cut at any length is refused as truncated, a longer one as corrupt") {
  TempDirectory directory;
  for (const uint64_t length :
       {uint64_t{0}, uint64_t{1}, uint64_t{8}, uint64_t{511}, uint64_t{512}, uint64_t{4095},
        uint64_t{4096}, uint64_t{256 << 10}, kFileBytes - 4096, kFileBytes - 1}) {
    const std::string path = intact_file(directory);
    REQUIRE(std::filesystem::file_size(path) == kFileBytes);
    CAPTURE(length);
    std::filesystem::resize_file(path, length);
    CHECK(open_error(path, kSize) == ErrorCode::kTruncated);
    CHECK(std::filesystem::file_size(path) == length);
  }
  const std::string path = intact_file(directory);
  std::filesystem::resize_file(path, kFileBytes + 4096);
  CHECK(open_error(path, kSize) == ErrorCode::kCorrupt);
}

TEST_CASE("T14: the bitmap of another disk or of a cut one is refused as foreign, untouched") {
  TempDirectory directory;
  const std::string path = intact_file(directory);
  CHECK(open_error(path, kSize, Uuid::random()) == ErrorCode::kForeign);
  CHECK(open_error(path, kSize - 1) == ErrorCode::kForeign);
  CHECK(open_error(path, kSize - 4096) == ErrorCode::kForeign);
  CHECK(open_bitmap(path, kSize)->opened_clean());
}

TEST_CASE("an unknown version is refused with both versions named") {
  TempDirectory directory;
  const std::string path = intact_file(directory);
  edit_header(path, [](uint8_t* at) { at[8] = 7; });
  const Status status = DirtyBitmap::open(path, kDisk, kSize).status();
  CHECK(status.code() == ErrorCode::kVersion);
  CHECK(status.message().find("version 7") != std::string::npos);
  CHECK(status.message().find("version 2") != std::string::npos);
}

TEST_CASE("a bitmap of format version 1 is refused with both versions named, untouched") {
  TempDirectory directory;
  const std::string path = copy_of_fixture(directory, "bitmap-v1", "clean.bitmap");
  const Status status = DirtyBitmap::open(path, kDisk, 1'000'000).status();
  CHECK(status.code() == ErrorCode::kVersion);
  CHECK(status.message().find("version 1,") != std::string::npos);
  CHECK(status.message().find("version 2") != std::string::npos);
  CHECK(bytes_of(path) == bytes_of(fixture_path("bitmap-v1", "clean.bitmap")));
}

TEST_CASE("impossible numbers are refused even under a checksum that holds") {
  TempDirectory directory;
  for (const auto& [offset, value] : std::vector<std::pair<size_t, uint64_t>>{{12, 4},
                                                                              {32, 0},
                                                                              {32, UINT64_MAX},
                                                                              {40, 1},
                                                                              {48, 0},
                                                                              {56, 0},
                                                                              {64, 0},
                                                                              {64, 4097},
                                                                              {68, 17}}) {
    const std::string path = intact_file(directory);
    CAPTURE(offset);
    CAPTURE(value);
    edit_header(path, [&](uint8_t* at) {
      if (offset == 12 || offset >= 64) {
        store_le<uint32_t>(at + offset, static_cast<uint32_t>(value));
      } else {
        store_le<uint64_t>(at + offset, value);
      }
    });
    CHECK(open_error(path, kSize) == ErrorCode::kCorrupt);
  }
}

TEST_CASE("garbage of any length is refused as corrupt") {
  TempDirectory directory;
  std::mt19937_64 random(7);
  for (const size_t length : {100, 512, 4096, 300'000}) {
    const std::string path = directory.file("garbage");
    std::string bytes(length, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
    CHECK(open_error(path, kSize) == ErrorCode::kCorrupt);
  }
}

TEST_CASE("T10: a map with a bit past the last block is refused as corrupt") {
  TempDirectory directory;
  // Block 101 is the first past the end; 32767 the last that a page can hold.
  for (const uint64_t block : {101, 127, 128, 512, 32767}) {
    for (const uint64_t map_index : {0, 1, 2, 3, 4, 5}) {
      const std::string path = intact_file(directory);
      const uint8_t byte = static_cast<uint8_t>(1U << (block % 8));
      write_at(path, (256 << 10) + map_index * 4096 + block / 8, &byte, 1);
      CHECK(open_error(path, kSize) == ErrorCode::kCorrupt);
    }
  }
}

TEST_CASE("every refusal says which file, why, and what to do") {
  TempDirectory directory;
  const std::string path = intact_file(directory);
  flip_bit(path, 40, 3);
  const std::string message = DirtyBitmap::open(path, kDisk, kSize).status().message();
  CHECK(message.find("Cannot open the bitmap " + path + ": because ") == 0);
  CHECK(message.find("compare the whole disk") != std::string::npos);
}

TEST_CASE("a bitmap of format version 2 from the past opens with all its content") {
  for (const bool clean : {true, false}) {
    TempDirectory directory;
    const std::string path =
        copy_of_fixture(directory, "bitmap-v2", clean ? "clean.bitmap" : "unclean.bitmap");
    auto bitmap = open_bitmap(path, 1'000'000);
    CHECK(bitmap->opened_clean() == clean);
    CHECK(bitmap->granularity_bytes() == 8192);
    CHECK(bitmap->find_target(kReplicaA) == 0);
    CHECK(bitmap->find_target(kReplicaB) == 1);
    CHECK(blocks_of(*bitmap, MapId::staged(1)) == std::set<uint64_t>{0, 64});
    CHECK(bitmap->fingerprint().state == BackingFingerprint::State::kClosed);
    CHECK(bitmap->fingerprint().identity[19] == 0xa1);
    CHECK(bitmap->fingerprint().size_bytes == 1'000'000);
    CHECK(bitmap->fingerprint().modified_ns == 1'700'000'000'123'456'789);
    CHECK(bitmap->fingerprint().sample_seed == 0x0123456789abcdef);
    CHECK(bitmap->fingerprint().sample_count == 40);
    CHECK(bitmap->fingerprint().samples[19] == 0xb2);
    if (clean) {
      CHECK(blocks_of(*bitmap, MapId::suspect(0)) == std::set<uint64_t>{7, 8});
      CHECK(blocks_of(*bitmap, MapId::suspect(1)).empty());
      CHECK(bitmap->suspicion_causes(0) == static_cast<SuspicionCauses>(SuspicionCause::kModified));
      CHECK(bitmap->suspicion_causes(1) == 0);
      CHECK(blocks_of(*bitmap, MapId::live()) == std::set<uint64_t>{122});
      CHECK(blocks_of(*bitmap, MapId::pending(0)) == std::set<uint64_t>{3, 4, 5});
      CHECK(blocks_of(*bitmap, MapId::pending(1)) == std::set<uint64_t>{4, 5, 6});
      CHECK(blocks_of(*bitmap, MapId::in_flight(0)) == std::set<uint64_t>{100});
    } else {  // written on another boot
      CHECK(blocks_of(*bitmap, MapId::pending(0)) == std::set<uint64_t>{3, 4, 5, 100, 122});
      CHECK(blocks_of(*bitmap, MapId::pending(1)) == std::set<uint64_t>{4, 5, 6, 122});
      for (const uint32_t slot : {0, 1}) {  // its region was marked
        CHECK(bitmap->dirty_block_count(MapId::suspect(slot)) == 123);
        CHECK((bitmap->suspicion_causes(slot) &
               static_cast<SuspicionCauses>(SuspicionCause::kPowerLoss)) != 0);
      }
    }
  }
}
