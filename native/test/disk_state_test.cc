// A disk's state on its way from one holder to the next: nothing is lost, whoever is
// killed, and there are never two who may write.
#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <fstream>
#include <random>

#include "bitmap/state_export.h"
#include "bitmap_support.h"
#include "common/failpoint.h"
#include "device/file_device.h"
#include "device/sync_io.h"
#include "tracking/fingerprint.h"
#include "tracking/state_import.h"

using namespace tidemark;

namespace {

constexpr uint64_t kBlock = 4096;
constexpr uint64_t kSize = 40'000 * kBlock + 512;  // two pages a map, a partial tail

std::shared_ptr<BlockDevice> open_image(const std::string& path) {
  FileDeviceParameters parameters;
  parameters.path = path;
  auto device = open_file_device(parameters);
  REQUIRE(device.is_ok());
  return device.value();
}

using Maps = std::vector<std::set<uint64_t>>;

Maps maps_of(const DirtyBitmap& bitmap) {
  Maps maps{blocks_of(bitmap, MapId::live())};
  for (const auto& target : bitmap.targets()) {
    maps.push_back(blocks_of(bitmap, MapId::pending(target.slot)));
    maps.push_back(blocks_of(bitmap, MapId::in_flight(target.slot)));
    maps.push_back(blocks_of(bitmap, MapId::staged(target.slot)));
    maps.push_back(blocks_of(bitmap, MapId::suspect(target.slot)));
  }
  return maps;
}

// Two hosts: a disk that was used and closed on A, and room for it on B.
struct Scene {
  Scene() {
    std::ofstream(image_a).close();
    std::filesystem::resize_file(image_a, kSize);
    auto bitmap = create_bitmap(bitmap_a, kSize);
    auto device = open_image(image_a);
    REQUIRE(settle_fingerprint(*device, *bitmap).is_ok());
    for (const Uuid& id : {kReplicaA, kReplicaB}) add_target(*bitmap, id);
    REQUIRE(bitmap->remove_target(0).is_ok());
    add_target(*bitmap, kReplicaA);
    mark_all_maps(*bitmap);
    require_ok(write_sync(*device, 0, std::vector<std::byte>(1 << 20, std::byte{7})));
    close(*device, *bitmap);
    const auto again = open_bitmap(bitmap_a, kSize);
    maps = maps_of(*again);
    close(*device, *again);
    device.reset();
  }

  static void mark_all_maps(DirtyBitmap& bitmap) {
    std::mt19937_64 random(11);
    const auto mark_some = [&] {
      for (int i = 0; i < 20; ++i) bitmap.mark(random() % 40'001 * kBlock, 1);
    };
    for (uint32_t slot = 0; slot < 2; ++slot) {
      mark_some();
      bitmap.flip();
      require_ok(bitmap.merge_closed());
      require_ok(bitmap.take_pending(slot));
      require_ok(bitmap.stage(slot));
      mark_some();
      bitmap.flip();
      require_ok(bitmap.merge_closed());
      require_ok(bitmap.take_pending(slot));
      require_ok(bitmap.mark_suspect(slot, random() % kSize, 1, SuspicionCause::kOrdered));
      mark_some();
    }
  }

  static void close(BlockDevice& device, DirtyBitmap& bitmap) {
    IntentLog& intents = bitmap.intents();
    intents.cool();
    intents.make_quiet(intents.cooling());  // the page is as a settled device leaves it
    require_ok(intents.finish(true));
    require_ok(keep_fingerprint(device, bitmap));
    require_ok(bitmap.close());
  }

  Status give(const std::string& annex = {}) const {
    return export_state(bitmap_a, kDisk, state, annex).status();
  }
  void copy_image() const { std::filesystem::copy_file(image_a, image_b); }
  Result<SuspicionCauses> take(const std::string& from, const std::string& bitmap,
                               const std::string& image, const Uuid& disk = kDisk) const {
    auto device = open_image(image);
    const auto imported = import_state({from, bitmap, disk}, *device);
    if (!imported.is_ok()) return imported.status();
    return imported.value().causes;
  }
  Result<SuspicionCauses> take() const { return take(state, bitmap_b, image_b); }

  // Opens as a tracked disk does, and closes again.
  static ErrorCode use(const std::string& path, const std::string& image, Maps* found = nullptr) {
    auto device = open_image(image);
    auto bitmap = DirtyBitmap::open(path, kDisk, device->size_bytes());
    if (!bitmap.is_ok()) return bitmap.status().code();
    const auto causes = settle_fingerprint(*device, *bitmap.value());
    REQUIRE(causes.is_ok());
    CHECK(causes.value() == 0);
    if (found != nullptr) *found = maps_of(*bitmap.value());
    close(*device, *bitmap.value());
    return ErrorCode::kOk;
  }

  TempDirectory directory;
  const std::string image_a = directory.file("a.raw");
  const std::string image_b = directory.file("b.raw");
  const std::string bitmap_a = directory.file("a.tidemark");
  const std::string bitmap_b = directory.file("b.tidemark");
  const std::string state = directory.file("state");
  Maps maps;
};

// Runs `body` in a child that a failpoint kills; false: it was not reached.
template <typename Body>
bool killed_at(const std::string& name, Body body) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::setenv("TIDEMARK_FAILPOINT", (name + ":1").c_str(), 1);
    arm_failpoints_from_environment();
    (void)body();
    ::_exit(0);
  }
  int state = 0;
  REQUIRE(::waitpid(child, &state, 0) == child);
  return WIFSIGNALED(state) && WTERMSIG(state) == SIGKILL;
}

}  // namespace

TEST_CASE("an imported state has every map of the exported one, and is of this disk here") {
  const Scene scene;
  require_ok(scene.give());
  scene.copy_image();
  const auto causes = scene.take();
  INFO(causes.status().message());
  REQUIRE(causes.is_ok());
  CHECK(causes.value() == 0);
  Maps found;
  CHECK(Scene::use(scene.bitmap_b, scene.image_b, &found) == ErrorCode::kOk);
  CHECK(found == scene.maps);
}

TEST_CASE("T40: who exported the disk does not open it any more, and does once it took it back") {
  const Scene scene;
  require_ok(scene.give());
  CHECK(Scene::use(scene.bitmap_a, scene.image_a) == ErrorCode::kHandedOver);
  require_ok(take_back_state(scene.bitmap_a, scene.state));
  scene.copy_image();
  CHECK(scene.take().status().code() == ErrorCode::kHandedOver);
  Maps found;
  CHECK(Scene::use(scene.bitmap_a, scene.image_a, &found) == ErrorCode::kOk);
  CHECK(found == scene.maps);
  CHECK(take_back_state(scene.bitmap_a, scene.state).code() == ErrorCode::kInvalidArgument);
}

TEST_CASE("a state is imported once, and not taken back after that") {
  const Scene scene;
  require_ok(scene.give());
  scene.copy_image();
  REQUIRE(scene.take().is_ok());
  CHECK(scene.take().status().code() == ErrorCode::kHandedOver);
  const std::string third = scene.directory.file("c.tidemark");
  CHECK(scene.take(scene.state, third, scene.image_b).status().code() == ErrorCode::kHandedOver);
  CHECK_FALSE(std::filesystem::exists(third));
  CHECK(take_back_state(scene.bitmap_a, scene.state).code() == ErrorCode::kHandedOver);
  CHECK(scene.give().code() == ErrorCode::kHandedOver);
  CHECK(Scene::use(scene.bitmap_a, scene.image_a) == ErrorCode::kHandedOver);
}

TEST_CASE("taken back by force, all of the disk is suspect") {
  const Scene scene;
  require_ok(scene.give());
  std::filesystem::remove(scene.state);
  require_ok(take_back_by_force(scene.bitmap_a));
  const auto bitmap = open_bitmap(scene.bitmap_a, kSize);
  for (uint32_t slot = 0; slot < 2; ++slot) {
    CHECK(bitmap->dirty_block_count(MapId::suspect(slot)) == bitmap->block_count());
    CHECK((bitmap->suspicion_causes(slot) &
           static_cast<SuspicionCauses>(SuspicionCause::kTakenByForce)) != 0);
  }
}

TEST_CASE("T14: a state that is older than the bitmap that is there is refused as older") {
  const Scene scene;
  require_ok(scene.give());
  const std::string old = scene.directory.file("old");
  std::filesystem::copy_file(scene.state, old);
  scene.copy_image();
  REQUIRE(scene.take().is_ok());
  CHECK(scene.take(old, scene.bitmap_b, scene.image_b).status().code() == ErrorCode::kHandedOver);
  // Back to A, which then knows of a later epoch than the copy.
  const std::string back = scene.directory.file("back");
  require_ok(export_state(scene.bitmap_b, kDisk, back).status());
  REQUIRE(scene.take(back, scene.bitmap_a, scene.image_b).is_ok());
  CHECK(scene.take(old, scene.bitmap_a, scene.image_b).status().code() == ErrorCode::kStale);
  CHECK(scene.take(old, scene.bitmap_b, scene.image_b).status().code() == ErrorCode::kStale);
  Maps found;
  CHECK(Scene::use(scene.bitmap_a, scene.image_b, &found) == ErrorCode::kOk);
  CHECK(found == scene.maps);
}

TEST_CASE(
    "a state of another disk, of another size, or over a bitmap that owns the disk is refused") {
  const Scene scene;
  require_ok(scene.give());
  scene.copy_image();
  CHECK(scene.take(scene.state, scene.bitmap_b, scene.image_b, kReplicaA).status().code() ==
        ErrorCode::kForeign);
  std::filesystem::resize_file(scene.image_b, kSize + 1);
  CHECK(scene.take().status().code() == ErrorCode::kForeign);
  std::filesystem::resize_file(scene.image_b, kSize);
  { const auto owner = create_bitmap(scene.bitmap_b, kSize); }
  CHECK(scene.take().status().code() == ErrorCode::kAlreadyExists);
  std::filesystem::remove(scene.bitmap_b);
  CHECK(scene.take().is_ok());
}

TEST_CASE("a disk that was not closed is not exported, and a file that is there not overwritten") {
  const Scene scene;
  std::ofstream(scene.state) << "somebody's notes, of some length";
  CHECK(scene.give().code() == ErrorCode::kAlreadyExists);
  std::filesystem::remove(scene.state);
  { const auto bitmap = open_bitmap(scene.bitmap_a, kSize); }
  CHECK(scene.give().code() == ErrorCode::kInvalidArgument);
}

TEST_CASE("T16: a copy whose sampled content differs makes everything suspect") {
  const Scene scene;
  require_ok(scene.give());
  scene.copy_image();
  const uint8_t byte = 0x5a;
  write_at(scene.image_b, 0, &byte, 1);
  const auto causes = scene.take();
  REQUIRE(causes.is_ok());
  CHECK(causes.value() == static_cast<SuspicionCauses>(SuspicionCause::kContentDiffers));
  auto bitmap = open_bitmap(scene.bitmap_b, kSize);
  for (uint32_t slot = 0; slot < 2; ++slot) {
    CHECK(bitmap->dirty_block_count(MapId::suspect(slot)) == bitmap->block_count());
  }
}

TEST_CASE("what is added to a state goes with it, up to its limit") {
  const Scene scene;
  const std::string annex(StateFile::kMaxAnnexBytes, 'n');
  CHECK(scene.give(annex + 'n').code() == ErrorCode::kInvalidArgument);
  require_ok(scene.give(annex));
  const auto state = StateFile::open(scene.state);
  require_ok(state.status());
  CHECK(state.value().content().annex == annex);
}

TEST_CASE("T14: a state with any flipped bit, or cut anywhere, makes no bitmap") {
  const Scene scene;
  require_ok(scene.give(std::string(400, 'n')));
  scene.copy_image();
  const uint64_t length = std::filesystem::file_size(scene.state);
  const std::string damaged = scene.directory.file("damaged");
  std::mt19937_64 random(5);
  for (int i = 0; i < 120; ++i) {
    // Most of them in what is not a page's content: at the begin, and at the end.
    const uint64_t places[] = {random() % 1536, random() % length, length - 1 - random() % 400};
    const uint64_t at = places[i % 3];
    std::filesystem::remove(damaged);
    std::filesystem::copy_file(scene.state, damaged);
    flip_bit(damaged, at, static_cast<unsigned>(random() % 8));
    CAPTURE(at);
    CHECK_FALSE(scene.take(damaged, scene.bitmap_b, scene.image_b).is_ok());
    CHECK_FALSE(std::filesystem::exists(scene.bitmap_b));
  }
  for (const uint64_t cut :
       {length - 1, length - 4108, uint64_t{1535}, uint64_t{600}, uint64_t{0}}) {
    CAPTURE(cut);
    std::filesystem::remove(damaged);
    std::filesystem::copy_file(scene.state, damaged);
    std::filesystem::resize_file(damaged, cut);
    CHECK(scene.take(damaged, scene.bitmap_b, scene.image_b).status().code() ==
          ErrorCode::kTruncated);
  }
  std::filesystem::remove(damaged);
  std::filesystem::copy_file(scene.state, damaged);
  edit_header(damaged, [](uint8_t* sector) { sector[8] = 9; });
  CHECK(scene.take(damaged, scene.bitmap_b, scene.image_b).status().code() == ErrorCode::kVersion);
}

TEST_CASE(
    "T40: killed at any step of export and import there is at most one owner, and the next try "
    "ends it") {
  for (const char* name : {"state.written", "state.given", "state.sealed", "state.import.made",
                           "state.import.claimed", "state.import.named"}) {
    CAPTURE(name);
    const Scene scene;
    scene.copy_image();
    const bool in_export = std::string(name).find("import") == std::string::npos;
    if (in_export) {
      REQUIRE(killed_at(name, [&] { return scene.give(); }));
    } else {
      require_ok(scene.give());
      REQUIRE(killed_at(name, [&] { return scene.take().status(); }));
    }
    // Whoever may open now: never both, and never A while B could still import.
    const bool a_owns = Scene::use(scene.bitmap_a, scene.image_a) == ErrorCode::kOk;
    if (a_owns) {
      CHECK_FALSE(scene.take().is_ok());
      std::filesystem::remove(scene.state);
    }
    CHECK_FALSE((a_owns && std::filesystem::exists(scene.bitmap_b)));
    if (std::filesystem::exists(scene.bitmap_b)) {
      CHECK(take_back_state(scene.bitmap_a, scene.state).code() == ErrorCode::kHandedOver);
      const std::string third = scene.directory.file("c.tidemark");
      CHECK(scene.take(scene.state, third, scene.image_b).status().code() ==
            ErrorCode::kHandedOver);
    }
    if (in_export) require_ok(scene.give());
    if (!std::filesystem::exists(scene.bitmap_b)) {
      const auto causes = scene.take();
      INFO(causes.status().message());
      REQUIRE(causes.is_ok());
    }
    CHECK(Scene::use(scene.bitmap_a, scene.image_a) == ErrorCode::kHandedOver);
    Maps found;
    CHECK(Scene::use(scene.bitmap_b, scene.image_b, &found) == ErrorCode::kOk);
    CHECK(found == scene.maps);
  }
}

TEST_CASE("killed while it takes the state back, nobody owns the disk, and the next try does") {
  const Scene scene;
  scene.copy_image();
  require_ok(scene.give());
  REQUIRE(
      killed_at("state.taken_back", [&] { return take_back_state(scene.bitmap_a, scene.state); }));
  CHECK(scene.take().status().code() == ErrorCode::kHandedOver);
  CHECK(Scene::use(scene.bitmap_a, scene.image_a) == ErrorCode::kHandedOver);
  require_ok(take_back_state(scene.bitmap_a, scene.state));
  Maps found;
  CHECK(Scene::use(scene.bitmap_a, scene.image_a, &found) == ErrorCode::kOk);
  CHECK(found == scene.maps);
}
