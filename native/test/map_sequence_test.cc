// T14: what tells a bitmap from an older copy of itself.
#include <filesystem>

#include "bitmap/dirty_bitmap.h"
#include "bitmap_support.h"
#include "scratch_file.h"

using namespace tidemark;

TEST_CASE("T14: a bitmap's sequence rises over its whole life, and an older copy is smaller") {
  const ScratchDirectory scratch;
  const std::string path = scratch.path() + "/bitmap";
  const std::string copy = scratch.path() + "/copy";
  constexpr uint64_t kBytes = 1 << 20;
  uint64_t known = 0;
  {
    auto made = DirtyBitmap::create(path, {kDisk, kBytes, 4096});
    REQUIRE(made.is_ok());
    DirtyBitmap& bitmap = *made.value();
    known = bitmap.sequence();
    std::filesystem::copy_file(path, copy);
    const auto advanced = bitmap.advance_sequence();
    REQUIRE(advanced.is_ok());
    CHECK(advanced.value() > known);
    known = advanced.value();
    CHECK(bitmap.sequence() == known);
    CHECK(bitmap.advance_sequence(known + 100).value() == known + 101);
    known += 101;
  }  // without close()
  for (const bool closes : {true, false, true}) {
    auto opened = DirtyBitmap::open(path, kDisk, kBytes);
    REQUIRE(opened.is_ok());
    CHECK(opened.value()->sequence() > known);
    known = opened.value()->sequence();
    if (closes) REQUIRE(opened.value()->close().is_ok());
  }
  std::filesystem::copy_file(copy, path, std::filesystem::copy_options::overwrite_existing);
  auto older = DirtyBitmap::open(path, kDisk, kBytes);
  REQUIRE(older.is_ok());
  CHECK(older.value()->sequence() < known);
}

TEST_CASE("a grown bitmap's sequence goes on") {
  const ScratchDirectory scratch;
  constexpr uint64_t kBytes = 1 << 20;
  auto made = DirtyBitmap::create(scratch.path() + "/bitmap", {kDisk, kBytes, 4096});
  REQUIRE(made.is_ok());
  const uint64_t before = made.value()->advance_sequence(50).value();
  REQUIRE(made.value()->begin_growth(2 * kBytes).is_ok());
  REQUIRE(made.value()->finish_growth().is_ok());
  CHECK(made.value()->sequence() >= before);
}
