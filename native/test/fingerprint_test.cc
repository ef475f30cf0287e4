// T16: a backing that changed while the filter was away is found out, and makes
// everything suspect before anything may be written.
#include "tracking/fingerprint.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "bitmap_support.h"
#include "device/block_hashes.h"
#include "device/file_device.h"
#include "device/sync_io.h"

using namespace tidemark;

namespace {

constexpr uint64_t kSize = 64 << 20;

constexpr auto bit(SuspicionCause value) { return static_cast<SuspicionCauses>(value); }

std::shared_ptr<BlockDevice> open_image(const std::string& path) {
  FileDeviceParameters parameters;
  parameters.path = path;
  auto device = open_file_device(parameters);
  REQUIRE(device.is_ok());
  return device.value();
}

struct Scene {
  Scene() {
    std::ofstream(image).close();
    std::filesystem::resize_file(image, kSize);
    auto bitmap = create_bitmap(path, kSize);
    auto device = open_image(image);
    REQUIRE(settle_fingerprint(*device, *bitmap).is_ok());
    add_target(*bitmap, kReplicaA);
    require_ok(write_sync(*device, 0, std::vector<std::byte>(1 << 20, std::byte{7})));
    require_ok(keep_fingerprint(*device, *bitmap));
    require_ok(bitmap->close());
  }

  // What the next opening finds, and that it says so again until it was settled.
  SuspicionCauses look() const {
    auto device = open_image(image);
    auto bitmap = open_bitmap(path, device->size_bytes());
    const auto causes = settle_fingerprint(*device, *bitmap);
    REQUIRE(causes.is_ok());
    const uint64_t suspect = bitmap->dirty_block_count(MapId::suspect(0));
    CHECK(suspect == (causes.value() == 0 ? 0 : bitmap->block_count()));
    CHECK(bitmap->suspicion_causes(0) == causes.value());
    return causes.value();
  }

  TempDirectory directory;
  const std::string image = directory.file("disk.raw");
  const std::string path = directory.file("b");
};

void overwrite(const std::string& image, uint64_t offset_bytes) {
  const uint8_t byte = 0x5a;
  write_at(image, offset_bytes, &byte, 1);
}

struct stat stat_of(const std::string& path) {
  struct stat found {};
  REQUIRE(::stat(path.c_str(), &found) == 0);
  return found;
}

void put_times_back(const std::string& path, const struct stat& before) {
  const timespec times[] = {before.st_atim, before.st_mtim};
  REQUIRE(::utimensat(AT_FDCWD, path.c_str(), times, 0) == 0);
}

}  // namespace

TEST_CASE("T16: a backing that nobody touched is not suspect") { CHECK(Scene().look() == 0); }

TEST_CASE("T16: one that another program wrote to is, wherever it wrote") {
  const Scene scene;
  overwrite(scene.image, 33'333'333);
  CHECK((scene.look() & bit(SuspicionCause::kModified)) != 0);
}

TEST_CASE("T16: a write whose time was put back is found by the samples, where it fell on one") {
  const Scene scene;
  const auto before = stat_of(scene.image);
  overwrite(scene.image, 1 << 20);
  put_times_back(scene.image, before);
  CHECK(scene.look() == bit(SuspicionCause::kContentDiffers));
}

TEST_CASE("T16: an image that was replaced by its copy is another one") {
  const Scene scene;
  const auto before = stat_of(scene.image);
  std::filesystem::copy_file(scene.image, scene.image + ".new");
  std::filesystem::rename(scene.image + ".new", scene.image);
  put_times_back(scene.image, before);
  CHECK(scene.look() == bit(SuspicionCause::kReplaced));
}

TEST_CASE("T16: an image that grew while the filter was away is suspect as a whole") {
  const Scene scene;
  const auto before = stat_of(scene.image);
  std::filesystem::resize_file(scene.image, kSize + (1 << 20));
  put_times_back(scene.image, before);
  CHECK(scene.look() == bit(SuspicionCause::kSizeChanged));
}

TEST_CASE("T16: after an unclean end the image's identity is all that is compared") {
  const Scene scene;
  CHECK(scene.look() == 0);  // ends unclean
  overwrite(scene.image, 0);
  CHECK(scene.look() == 0);
  std::filesystem::copy_file(scene.image, scene.image + ".new");
  std::filesystem::rename(scene.image + ".new", scene.image);
  CHECK(scene.look() == bit(SuspicionCause::kReplaced));
}

TEST_CASE("T16: a crash between the opening and the look loses nothing of what it would see") {
  const Scene scene;
  overwrite(scene.image, 33'333'333);
  open_bitmap(scene.path, kSize).reset();
  CHECK((scene.look() & bit(SuspicionCause::kModified)) != 0);
}

TEST_CASE("T12: a bitmap that was closed without a fingerprint makes everything suspect") {
  const Scene scene;
  require_ok(open_bitmap(scene.path, kSize)->keep_fingerprint({}));
  require_ok(open_bitmap(scene.path, kSize)->close());
  CHECK(scene.look() == bit(SuspicionCause::kNoFingerprint));
}

TEST_CASE("blocks hash as their content does, past the disk's end as zeroes") {
  const Scene scene;
  auto device = open_image(scene.image);
  const std::vector<HashExtent> extents{{4096, 10'000}, {kSize - 100, 8192}};
  const auto hashes = hash_blocks(*device, extents, 4096);
  REQUIRE(hashes.is_ok());
  CHECK(hashes.value().size() == (3 + 2) * 32);
  const auto hash = [&](size_t index) {
    const auto* at = reinterpret_cast<const char*>(hashes.value().data()) + index * 32;
    return std::string(at, 32);
  };
  CHECK(hash(0) == hash(1));  // 7s
  CHECK(hash(2) != hash(1));  // fewer of them
  CHECK(hash(3) == hash(4));  // zeroes, read and past the end
  // Of 4096 zeroes, as sha256sum says.
  CHECK(static_cast<uint8_t>(hash(4)[0]) == 0xad);
  CHECK(static_cast<uint8_t>(hash(4)[31]) == 0xa7);
}
