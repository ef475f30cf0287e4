// A tracked disk whose bitmap lies on the simulated storage, which loses what was not
// synced. No thread runs but the test's: it chooses the order of the log's work, of the
// quiet-down's rounds and of everything else.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <map>

#include "simulated_storage.h"
#include "tracking/tracked_device_impl.h"
#include "tracking_support.h"

namespace tidemark::power_loss {

using namespace tidemark::tracking_test;
using tidemark::simulation::Loss;
using tidemark::simulation::Random;
using tidemark::simulation::SimulatedStorage;
using tidemark::simulation::StepVerdict;
using tidemark::simulation::StorageOp;
using tidemark::simulation::StorageStep;

inline constexpr uint64_t kRegion = 64ULL << 20;
inline constexpr uint64_t kRegionCount = 8;
inline constexpr uint64_t kDiskBytes = kRegionCount * kRegion;
inline constexpr uint32_t kCoarse = 1U << 20;  // granularity: 64 blocks a region
inline const Uuid kDisk = *Uuid::parse("6f1d0c1e-3c5b-4f0a-9a52-0f6a5b1c2d3e");
inline const Uuid kReplica = *Uuid::parse("a0000000-0000-4000-8000-000000000001");
inline const char* const kPath = "disk.tidemark";

// Answers at once and keeps nothing; holds, fails and counts as told.
class BackingDevice final : public BlockDevice {
 public:
  using OnRequest = std::function<int(const IoRequest&)>;

  explicit BackingDevice(uint64_t size_bytes) : size_bytes_(size_bytes) {
    traits_.trim_reads_zero = true;
  }
  uint64_t size_bytes() const noexcept override { return size_bytes_; }
  const DeviceTraits& traits() const noexcept override { return traits_; }
  uint64_t loss_count() const noexcept override { return losses; }
  Status resize(uint64_t size_bytes) override {
    size_bytes_ = size_bytes;
    return Status::ok();
  }
  void submit(IoRequest& request) noexcept override {
    if (request.op == IoOp::kFlush) ++flush_count;
    if (request.is_write_class()) ++write_count;
    request.complete(on_request ? on_request(request) : 0);
  }

  OnRequest on_request;
  uint64_t losses = 0;
  int flush_count = 0;
  int write_count = 0;
  DeviceTraits traits_;

 private:
  uint64_t size_bytes_;
};

struct Scene {
  explicit Scene(Durability durability = Durability::kPowerSafe)
      : Scene(std::make_unique<SimulatedStorage>(), durability, true) {}
  Scene(std::unique_ptr<SimulatedStorage> from, Durability durability, bool is_new,
        uint64_t disk_bytes = kDiskBytes)
      : storage(std::move(from)), backing(std::make_shared<BackingDevice>(disk_bytes)) {
    auto made = is_new
                    ? DirtyBitmap::create(kPath, {kDisk, disk_bytes, kCoarse, durability}, *storage)
                    : DirtyBitmap::open(kPath, kDisk, disk_bytes, *storage, durability);
    REQUIRE_MESSAGE(made.is_ok(), made.status().message());
    bitmap = std::move(made).value();
    device = std::make_unique<TrackedDevice>(backing, bitmap, std::chrono::milliseconds(0));
    if (is_new) slot = add_target(*device, kReplica);
  }

  // The disk after a clean close and another open: nothing is marked.
  static Scene quiet(Durability durability = Durability::kPowerSafe) {
    Scene scene(durability);
    return std::move(scene).reopened(durability);
  }
  Scene reopened(Durability durability = Durability::kPowerSafe) && {
    REQUIRE(device->settle().is_ok());
    REQUIRE(bitmap->close().is_ok());
    device.reset();
    bitmap.reset();
    auto after = storage->after_process_crash();
    return Scene(std::move(after), durability, false);
  }
  Scene after_power_loss(Loss loss = Loss::kAll, uint64_t seed = 1,
                         Durability durability = Durability::kPowerSafe) const {
    Random random(seed);
    return Scene(storage->after_power_loss(loss, random(), random), durability, false);
  }

  IntentLog& log() const { return bitmap->intents(); }
  QuietDown& quiet_down() const { return device->impl().quiet_down(); }

  // Through the log, waiting where it must.
  void write(uint64_t region, uint64_t offset_bytes = 0, uint64_t length_bytes = 4096) const {
    Request request(IoOp::kWrite, region * kRegion + offset_bytes, length_bytes, 1);
    request.submit(*device);
    if (!request.is_done()) log().work();
    CHECK(request.is_done());
  }
  int flush() const {
    Request request(IoOp::kFlush, 0, 0);
    return request.submit(*device).wait();
  }
  // Two rounds: the first begins to cool, the second ends it.
  void let_cool() const {
    quiet_down().run_round();
    quiet_down().run_round();
    log().work();
  }
  std::string marked() const {
    std::string text;
    for (const uint32_t region : log().marked()) text += std::to_string(region);
    return text;
  }
  // What a power loss now would leave of the page.
  std::string marked_on_disk() const {
    Random random(1);
    const auto lost = storage->after_power_loss(Loss::kAll, 0, random);
    auto file = lost->open(kPath);
    REQUIRE(file.is_ok());
    std::array<std::byte, kIntentPageBytes> bytes;
    REQUIRE(file.value()->read(kIntentPageOffsetBytes, bytes).is_ok());
    const auto page = IntentPage::decode(bytes, kDisk, RegionLayout::of(kDiskBytes));
    REQUIRE(page.is_ok());
    if (page.value().is_distrusted()) return "distrusted";
    if (!page.value().is_exact()) return "inexact";
    std::string text;
    for (uint32_t region = 0; region < kRegionCount; ++region) {
      if (page.value().is_marked(region)) text += std::to_string(region);
    }
    return text;
  }
  // Regions that are wholly suspect; "?" behind one of which a part is.
  std::string suspect() const {
    std::string text;
    const uint64_t blocks = kRegion / kCoarse;
    for (uint64_t region = 0; region < kRegionCount; ++region) {
      uint64_t count = 0;
      for (uint64_t i = 0; i < blocks; ++i) {
        count += bitmap->is_dirty(MapId::suspect(slot), region * blocks + i) ? 1 : 0;
      }
      if (count > 0) text += std::to_string(region);
      if (count > 0 && count < blocks) text += "?";
    }
    return text;
  }
  bool has_cause(SuspicionCause cause) const {
    return (bitmap->suspicion_causes(slot) & static_cast<SuspicionCauses>(cause)) != 0;
  }

  std::unique_ptr<SimulatedStorage> storage;
  std::shared_ptr<BackingDevice> backing;
  std::shared_ptr<DirtyBitmap> bitmap;
  std::unique_ptr<TrackedDevice> device;
  uint32_t slot = 0;
};

}  // namespace tidemark::power_loss
