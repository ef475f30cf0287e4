// The intent log's page: what is in it, and what is refused.
#include "bitmap/intent_page.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <initializer_list>
#include <random>

using namespace tidemark;

namespace {

constexpr uint64_t kRegion = 64ULL << 20;
const Uuid kDisk = *Uuid::parse("6f1d0c1e-3c5b-4f0a-9a52-0f6a5b1c2d3e");
const RegionLayout kLayout = RegionLayout::of(100 * kRegion - 1);

using PageBytes = std::array<std::byte, kIntentPageBytes>;

PageBytes encoded(const IntentPage& page) {
  PageBytes bytes{};
  for (uint32_t i = 0; i < page.sector_count(); ++i) {
    const auto sector = page.encode(i);
    std::copy(sector.begin(), sector.end(), bytes.begin() + i * IntentPage::kSectorBytes);
  }
  return bytes;
}

}  // namespace

TEST_CASE("a disk of any size has at most 16384 regions, of 64 MiB or more") {
  constexpr uint64_t kTiB = 1ULL << 40;
  for (const uint64_t size : std::initializer_list<uint64_t>{1, kRegion, kRegion + 1, kTiB,
                                                             kTiB + 1, kTiB << 20, INT64_MAX}) {
    const RegionLayout layout = RegionLayout::of(size);
    CAPTURE(size);
    CHECK(layout.count <= kMaxRegions);
    CHECK(layout.region_bytes() >= kRegion);
    CHECK(uint64_t{layout.count - 1} * layout.region_bytes() < size);
    CHECK((layout.shift == kMinRegionShift || layout.count > kMaxRegions / 2));
  }
  CHECK(RegionLayout::of(kTiB).shift == kMinRegionShift);
  CHECK(RegionLayout::of(kTiB + 1).shift == kMinRegionShift + 1);
}

TEST_CASE("T14: a page reads back as it was written, and with any flipped bit it is refused") {
  std::mt19937_64 random(7);
  const RegionLayout layout = RegionLayout::of(kMaxRegions * kRegion);
  IntentPage page(kDisk, layout);
  page.set_exact(true);
  for (int i = 0; i < 500; ++i) page.mark(static_cast<uint32_t>(random() % kMaxRegions));
  PageBytes bytes = encoded(page);
  const auto read = IntentPage::decode(bytes, kDisk, layout);
  REQUIRE(read.is_ok());
  CHECK(encoded(read.value()) == bytes);
  for (uint32_t region = 0; region < kMaxRegions; ++region) {
    REQUIRE(read.value().is_marked(region) == page.is_marked(region));
  }
  const size_t used_bytes = page.sector_count() * IntentPage::kSectorBytes;
  for (size_t i = 0; i < used_bytes; ++i) {
    bytes[i] ^= std::byte{1} << (i % 8);
    REQUIRE_FALSE(IntentPage::decode(bytes, kDisk, layout).is_ok());
    bytes[i] ^= std::byte{1} << (i % 8);
  }
  CHECK_FALSE(IntentPage::decode(bytes, Uuid::random(), layout).is_ok());
  CHECK_FALSE(IntentPage::decode(bytes, kDisk, kLayout).is_ok());
}

TEST_CASE("T12: a page that was never written says that all is marked") {
  const auto page = IntentPage::decode(PageBytes{}, kDisk, kLayout);
  REQUIRE(page.is_ok());
  CHECK_FALSE(page.value().is_exact());
  CHECK(page.value().is_marked(0));
  CHECK(page.value().is_marked(kLayout.count - 1));
}
