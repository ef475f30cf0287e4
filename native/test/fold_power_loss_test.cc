// A fold against power loss and failing devices: scratch, base and marks stand on
// devices that forget what was not flushed, in any order and in the middle of a write.
#include <doctest/doctest.h>

#include <array>
#include <thread>
#include <utility>

#include "device/fault_device.h"
#include "device/memory_device.h"
#include "device_contract.h"
#include "layers/fold_copier.h"
#include "layers/layered_device.h"
#include "layers/scratch_index.h"
#include "power_loss_device.h"
#include "scratch_file.h"

using namespace tidemark;
using device_contract::Probe;

namespace {

// The four devices of a disk that is folded, and how it is opened on them.
struct FoldDisk {
  ScratchDirectory directory;
  ScratchIdentity identity;
  std::vector<std::shared_ptr<const Layer>> layers;
  LayerBytes content;
  LayerBytes base_content;

  FoldDisk(std::mt19937_64& random, uint64_t size, uint32_t granularity, size_t layer_count) {
    base_content = content = random_content(random, size);
    identity = {uuid_of(1), size, granularity, size, static_cast<uint32_t>(layer_count), 7, {}};
    for (size_t i = 0; i < layer_count; ++i) {
      const LayerModel model =
          LayerModel::random_model(random, {uuid_of(1), uuid_of(2), i + 1, size, granularity});
      model.apply_to(content);
      layers.push_back(make_layer(directory.path() + "/" + std::to_string(i), model, random));
    }
  }

  ScratchIdentity marks_identity() const {
    ScratchIdentity marks = identity;
    marks.folded_scratch = uuid_of(3);
    return marks;
  }
  uint64_t index_bytes() const { return ScratchGeometry::of(identity).file_bytes(); }

  std::shared_ptr<LayeredDevice> open(const std::shared_ptr<BlockDevice>& base,
                                      const std::shared_ptr<BlockDevice>& data,
                                      const std::shared_ptr<BlockDevice>& index) const {
    auto scratch = Scratch::open(data, index, identity, "Cannot open scratch");
    REQUIRE_MESSAGE(scratch.is_ok(), scratch.status().message());
    OpenScratch open;
    open.scratch = std::move(scratch).value();
    return std::make_shared<LayeredDevice>(
        identity.size_bytes, LayerStack::open(base, layers).value(), std::move(open), "base");
  }

  void start(LayeredDevice& device, const std::shared_ptr<BlockDevice>& base,
             const std::shared_ptr<BlockDevice>& marks) const {
    auto opened = Scratch::open(base, marks, marks_identity(), "Cannot open marks");
    REQUIRE_MESSAGE(opened.is_ok(), opened.status().message());
    device.start_folding(std::move(opened).value());
  }
};

FoldCopier copier_of(LayeredDevice& device) {
  return {device.scratch_content(), device.below(), device.folded_base()};
}

void random_step(BlockDevice& disk, CrashModel& model, std::mt19937_64& random) {
  const uint64_t sectors = disk.size_bytes() / kSectorBytes;
  const uint64_t first = random() % sectors;
  const uint64_t count = 1 + random() % std::min<uint64_t>(24, sectors - first);
  const uint64_t offset = first * kSectorBytes;
  LayerBytes content(count * kSectorBytes);
  // Before: it may be there although it failed.
  switch (random() % 8) {
    case 0:
      if (flush_sync(disk).is_ok()) model.flushed();
      return;
    case 1:
      model.put(offset, content);
      (void)trim_sync(disk, offset, content.size());
      return;
    case 2:
      model.put(offset, content);
      (void)write_zeroes_sync(disk, offset, content.size(), random() % 2 ? kIoNoHole : 0);
      return;
    default:
      content = random_content(random, content.size());
      model.put(offset, content);
      (void)write_sync(disk, offset, content);
  }
}

// What forgets, and what dies with the power in the middle of everything.
struct Devices {
  std::array<std::shared_ptr<VolatileDevice>, 4> volatiles;  // base, data, index, marks
  std::array<std::shared_ptr<BlockDevice>, 4> dying;
  uint64_t requests_left = UINT64_MAX;

  explicit Devices(const FoldDisk& disk) {
    const std::array sizes{disk.identity.size_bytes, disk.identity.size_bytes, disk.index_bytes(),
                           disk.index_bytes()};
    for (size_t i = 0; i < 4; ++i) {
      volatiles[i] = std::make_shared<VolatileDevice>(sizes[i]);
      dying[i] = std::make_shared<DyingDevice>(volatiles[i], &requests_left);
    }
    REQUIRE(write_sync(*volatiles[0], 0, disk.base_content).is_ok());
    REQUIRE(flush_sync(*volatiles[0]).is_ok());
    REQUIRE(ScratchIndex::format(*volatiles[2], disk.identity, "Cannot make").is_ok());
  }
  void crash(std::mt19937_64& random) {
    for (const auto& each : volatiles) each->crash(random);
    requests_left = UINT64_MAX;
  }
};

// One life of the process: it opens the disk, works, and loses its power.
class FoldRun {
 public:
  FoldRun(const FoldDisk& disk, Devices& devices, CrashModel& model, std::mt19937_64& random)
      : disk_(disk), devices_(devices), model_(model), random_(random) {}

  // True when all is in the base.
  bool live(uint64_t requests, uint64_t steps) {
    auto& [base, data, index, marks] = devices_.dying;
    const auto device = disk_.open(base, data, index);
    if (has_begun_) {
      disk_.start(*device, base, marks);
      device->scratch_is_durable();
    }
    model_.check_after_restart(content_of(*device), true);
    devices_.requests_left = requests;
    bool finished = false;
    for (uint64_t i = 0; i < steps && !finished && devices_.requests_left > 0; ++i) {
      random_step(*device, model_, random_);
      if (!has_begun_ && random_() % 4 == 0) begin(*device);
      if (device->is_folding()) finished = fold(*device);
    }
    if (std::exchange(devices_.requests_left, UINT64_MAX) == 0) return false;
    REQUIRE(content_of(*device) == model_.now());
    return finished;
  }

 private:
  void begin(LayeredDevice& device) {
    auto& [base, data, index, marks] = devices_.dying;
    if (!flush_sync(device).is_ok()) return;
    model_.flushed();
    if (!ScratchIndex::format(*marks, disk_.marks_identity(), "Cannot make").is_ok()) return;
    has_begun_ = true;
    auto opened = Scratch::open(base, marks, disk_.marks_identity(), "Cannot open marks");
    if (!opened.is_ok()) return;  // no power
    device.start_folding(std::move(opened).value());
    if (!flush_sync(device).is_ok()) return;
    model_.flushed();
    device.scratch_is_durable();
  }

  bool fold(LayeredDevice& device) {
    FoldCopier copier = copier_of(device);
    const auto more = copier.step(1 + random_() % (8 * 4096));
    return more.is_ok() && !more.value() && flush_sync(device).is_ok();
  }

  const FoldDisk& disk_;
  Devices& devices_;
  CrashModel& model_;
  std::mt19937_64& random_;
  bool has_begun_ = false;
};

void run_power_losses(uint64_t seed) {
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  const uint32_t granularity = 512U << (random() % 5);
  const FoldDisk disk(random, granularity * (10 + random() % 30), granularity, random() % 4);
  Devices devices(disk);
  CrashModel model(disk.content);
  FoldRun run(disk, devices, model, random);
  for (int round = 0; round < 12; ++round) {
    CAPTURE(round);
    const bool by_request = random() % 2 == 0;
    if (run.live(by_request ? 10 + random() % 60 : UINT64_MAX, random() % 20)) break;
    devices.crash(random);
  }
  while (!run.live(UINT64_MAX, 10'000)) devices.crash(random);
  // The base alone, of which only what is durable is there.
  devices.volatiles[0]->crash_keeping_nothing();
  model.check_after_restart(content_of(*devices.volatiles[0]), true);
}

}  // namespace

TEST_CASE("power losses during a fold leave what was flushed, or what was written since") {
  for (uint64_t seed = 1; seed <= 300; ++seed) run_power_losses(seed);
}

TEST_CASE("power that fails at any request of a fold loses nothing flushed before") {
  // The same life, cut short one request later each time.
  for (uint64_t requests = 1, finished = 0; finished == 0; ++requests) {
    CAPTURE(requests);
    std::mt19937_64 random(77);
    const FoldDisk disk(random, 24 * 4096, 4096, 2);
    Devices devices(disk);
    CrashModel model(disk.content);
    FoldRun run(disk, devices, model, random);
    finished += run.live(requests, 100);
    devices.crash(random);
    while (!run.live(UINT64_MAX, 1000)) devices.crash(random);
    devices.volatiles[0]->crash_keeping_nothing();
    model.check_after_restart(content_of(*devices.volatiles[0]), true);
    REQUIRE(requests < 2000);
  }
}

namespace {

// On devices that fail as told. The guest has written to the scratch, and the fold
// has begun.
struct FaultyFold {
  std::mt19937_64 random{11};
  FoldDisk disk{random, 40 * 4096, 4096, 2};
  std::shared_ptr<BlockDevice> base_memory = make_memory_device(disk.identity.size_bytes);
  std::shared_ptr<BlockDevice> data_memory = make_memory_device(disk.identity.size_bytes);
  std::shared_ptr<BlockDevice> index = make_memory_device(disk.index_bytes());
  std::shared_ptr<BlockDevice> marks_memory = make_memory_device(disk.index_bytes());
  std::shared_ptr<FaultDevice> base = make_fault_device(base_memory);
  std::shared_ptr<FaultDevice> data = make_fault_device(data_memory);
  std::shared_ptr<FaultDevice> marks = make_fault_device(marks_memory);
  std::shared_ptr<LayeredDevice> device;

  FaultyFold() {
    REQUIRE(write_sync(*base_memory, 0, disk.base_content).is_ok());
    REQUIRE(ScratchIndex::format(*index, disk.identity, "Cannot make").is_ok());
    REQUIRE(ScratchIndex::format(*marks, disk.marks_identity(), "Cannot make").is_ok());
    device = disk.open(base, data, index);
    for (uint64_t block = 0; block < 40; block += 3) write(block);
    REQUIRE(flush_sync(*device).is_ok());
    disk.start(*device, base, marks);
    REQUIRE(flush_sync(*device).is_ok());
    device->scratch_is_durable();
  }

  void write(uint64_t block) {
    const LayerBytes bytes = random_content(random, 4096);
    REQUIRE(write_sync(*device, block * 4096, bytes).is_ok());
    std::copy(bytes.begin(), bytes.end(),
              disk.content.begin() + static_cast<ptrdiff_t>(block * 4096));
  }
  void reopen() {
    device.reset();
    device = disk.open(base, data, index);
    disk.start(*device, base, marks);
    device->scratch_is_durable();
  }
  bool is_intact() { return content_of(*device) == disk.content; }
};

}  // namespace

namespace {

struct Fault {
  std::shared_ptr<FaultDevice> FaultyFold::*device;
  IoOp op;
  bool is_for_good = false;  // the kernel may have dropped data: found out by opening anew
};

// How many steps failed, until all is folded or the fault is for good.
int fold_over(FaultyFold& t, const Fault& fault) {
  FoldCopier copier = copier_of(*t.device);
  for (int failures = 0;;) {
    const auto step = copier.step(4 * 4096);
    if (step.is_ok() && !step.value()) return failures;
    if (step.is_ok()) continue;
    ++failures;
    REQUIRE(step.status().sys_errno() == EIO);
    REQUIRE(t.is_intact());
    if (!fault.is_for_good) continue;
    CHECK_FALSE(copier.step(4096).is_ok());
    t.reopen();
    REQUIRE(t.is_intact());
    return failures;
  }
}

}  // namespace

TEST_CASE("a base, a scratch or marks that fail fail the fold, and no byte of the guest's") {
  const Fault faults[] = {
      {&FaultyFold::base, IoOp::kWrite},       {&FaultyFold::base, IoOp::kWriteZeroes},
      {&FaultyFold::base, IoOp::kFlush, true}, {&FaultyFold::data, IoOp::kRead},
      {&FaultyFold::marks, IoOp::kWrite},      {&FaultyFold::marks, IoOp::kFlush}};
  for (const Fault& fault : faults) {
    for (uint64_t skip = 0; skip < 4; ++skip) {
      CAPTURE(&fault - faults);
      CAPTURE(skip);
      FaultyFold t;
      (t.*fault.device)->fail_next(fault.op, EIO, 1, skip, 100);
      const int failures = fold_over(t, fault);
      // A failed copy to a mark's place is made good by the next cycle.
      CHECK((failures == 1 || (failures == 0 && fault.device == &FaultyFold::marks)));
      FoldCopier again = copier_of(*t.device);
      REQUIRE_FALSE(again.step(UINT64_MAX).value());
      REQUIRE(flush_sync(*t.device).is_ok());
      CHECK(content_of(*t.base_memory) == t.disk.content);
    }
  }
}

TEST_CASE("a write to a block that is being copied waits for that copy, and no other write does") {
  FaultyFold t;
  t.data->hold(IoOp::kRead);
  std::thread folder([&] {
    FoldCopier copier = copier_of(*t.device);
    CHECK(copier.step(UINT64_MAX).is_ok());
  });
  while (t.data->held_count() == 0) std::this_thread::yield();
  // Block 0 was written to the scratch, and its copy is held.
  Probe same(IoOp::kWrite, 0, 4096);
  std::fill_n(same.data(), 4096, std::byte{0x5a});
  std::fill_n(t.disk.content.begin(), 4096, std::byte{0x5a});
  same.submit(*t.device);
  t.write(3);
  t.write(7);
  CHECK(t.data->held_count() == 1);
  LayerBytes first(4096);
  REQUIRE(read_sync(*t.base_memory, 0, first).is_ok());
  CHECK(first[0] != std::byte{0x5a});
  t.data->release_held();
  CHECK(same.wait() == 0);
  folder.join();
  CHECK(t.is_intact());
}
