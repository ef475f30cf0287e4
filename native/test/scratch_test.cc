// The scratch against power loss: its two files stand on devices that forget
// what was not flushed, in any order and in the middle of a write.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <set>
#include <thread>
#include <utility>

#include "device/fault_device.h"
#include "device/memory_device.h"
#include "device/sync_io.h"
#include "layer_builder.h"
#include "layers/disk_content.h"
#include "layers/layer_stack.h"
#include "layers/scratch_change.h"
#include "layers/scratch_index.h"
#include "power_loss_device.h"

using namespace tidemark;

namespace {

// A scratch over a base, without files.
class ScratchDisk final : public BlockDevice {
 public:
  ScratchDisk(const LayerStack& below, std::unique_ptr<Scratch> scratch)
      : scratch_(std::move(scratch)), content_(below, scratch_.get()) {}

  uint64_t size_bytes() const noexcept override { return scratch_->size_bytes(); }
  const DeviceTraits& traits() const noexcept override { return traits_; }
  void submit(IoRequest& request) noexcept override {
    if (request.op == IoOp::kRead) return content_.read(request);
    if (request.op == IoOp::kFlush) return scratch_->flusher().flush(request);
    ScratchChange::start(request, *scratch_, content_);
  }

 private:
  std::unique_ptr<Scratch> scratch_;
  DiskContent content_;
  DeviceTraits traits_;
};

struct Setup {
  ScratchIdentity identity;
  std::unique_ptr<LayerStack> below;

  Setup(const LayerBytes& base, uint32_t granularity) {
    auto device = make_memory_device(base.size());
    REQUIRE(write_sync(*device, 0, base).is_ok());
    below = LayerStack::open(std::move(device), {}).value();
    identity = {uuid_of(1), base.size(), granularity, base.size(), 0, 0, {}};
  }

  std::unique_ptr<ScratchDisk> open(const std::shared_ptr<BlockDevice>& data,
                                    const std::shared_ptr<BlockDevice>& index) const {
    auto scratch = Scratch::open(data, index, identity, "Cannot open scratch");
    REQUIRE_MESSAGE(scratch.is_ok(), scratch.status().message());
    return std::make_unique<ScratchDisk>(*below, std::move(scratch).value());
  }

  uint64_t index_bytes() const { return ScratchGeometry::of(identity).file_bytes(); }
};

void random_step(ScratchDisk& disk, CrashModel& model, std::mt19937_64& random) {
  const uint64_t size = disk.size_bytes();
  const uint64_t sectors = size / kSectorBytes;
  const uint64_t first = random() % sectors;
  const uint64_t count = 1 + random() % std::min<uint64_t>(24, sectors - first);
  const uint64_t offset = first * kSectorBytes;
  LayerBytes content(count * kSectorBytes);
  switch (random() % 8) {
    case 0:
      REQUIRE(flush_sync(disk).is_ok());
      return model.flushed();
    case 1:
    case 2:
      REQUIRE(trim_sync(disk, offset, content.size()).is_ok());
      return model.put(offset, content);
    default:
      content = random_content(random, content.size());
      REQUIRE(write_sync(disk, offset, content).is_ok());
      return model.put(offset, content);
  }
}

void run_power_losses(uint64_t seed, uint32_t granularity, uint64_t size, int rounds) {
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  const LayerBytes base = random_content(random, size);
  const Setup setup(base, granularity);
  const auto data = std::make_shared<VolatileDevice>(size);
  const auto index = std::make_shared<VolatileDevice>(setup.index_bytes());
  REQUIRE(ScratchIndex::format(*index, setup.identity, "Cannot make scratch").is_ok());
  CrashModel model(base);
  bool power_was_lost = false;
  for (int round = 0; round < rounds; ++round) {
    CAPTURE(round);
    auto disk = setup.open(data, index);
    model.check_after_restart(content_of(*disk), power_was_lost);
    const uint64_t steps = random() % 40;
    for (uint64_t i = 0; i < steps; ++i) random_step(*disk, model, random);
    REQUIRE(content_of(*disk) == model.now());
    disk.reset();
    power_was_lost = random() % 8 != 0;
    if (power_was_lost) {
      data->crash(random);
      index->crash(random);
    }
  }
}

// Answers a flush, which has long taken effect, only when told.
class LateFlushDevice final : public BlockDevice {
 public:
  explicit LateFlushDevice(std::shared_ptr<BlockDevice> inner) : inner_(std::move(inner)) {}
  uint64_t size_bytes() const noexcept override { return inner_->size_bytes(); }
  const DeviceTraits& traits() const noexcept override { return inner_->traits(); }
  void submit(IoRequest& request) noexcept override {
    if (request.op == IoOp::kFlush && late) {
      request.push(
          [](IoRequest& flush, void* context, uint64_t, int) noexcept {
            static_cast<LateFlushDevice*>(context)->unanswered_ = &flush;
          },
          this);
    }
    inner_->submit(request);
  }
  void answer() { std::exchange(unanswered_, nullptr)->complete(0); }

  bool late = false;

 private:
  std::shared_ptr<BlockDevice> inner_;
  IoRequest* unanswered_ = nullptr;
};

}  // namespace

TEST_CASE("power losses at any time leave what was flushed, or what was written since") {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    run_power_losses(seed, 512U << (seed % 5), 40 * 4096 + 512 * (seed % 7), 12);
  }
}

TEST_CASE("power losses over an index of several pages leave what was flushed, too") {
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    run_power_losses(100 + seed, 512, 3 * GranuleStates::kGranulesPerPage * 512 - 4096, 5);
  }
}

TEST_CASE("power that fails between any two requests of a flush loses nothing flushed before") {
  std::mt19937_64 random(5);
  const LayerBytes base = random_content(random, 32 * 4096);
  const Setup setup(base, 4096);
  for (uint64_t trial = 0; trial < 400; ++trial) {
    CAPTURE(trial);
    const auto data = std::make_shared<VolatileDevice>(base.size());
    const auto index = std::make_shared<VolatileDevice>(setup.index_bytes());
    REQUIRE(ScratchIndex::format(*index, setup.identity, "Cannot make scratch").is_ok());
    uint64_t requests_left = 20 + trial % 60;
    const auto dying_data = std::make_shared<DyingDevice>(data, &requests_left);
    const auto dying_index = std::make_shared<DyingDevice>(index, &requests_left);
    CrashModel model(base);
    {
      const auto disk = setup.open(dying_data, dying_index);
      while (requests_left > 0) {
        const uint64_t offset = random() % 32 * 4096;
        const LayerBytes content = random_content(random, 4096);
        model.put(offset, content);  // before: it may be there although it failed
        (void)write_sync(*disk, offset, content);
        if (random() % 3 == 0 && flush_sync(*disk).is_ok()) model.flushed();
      }
    }
    data->crash(random);
    index->crash(random);
    model.check_after_restart(content_of(*setup.open(data, index)), true);
  }
}

TEST_CASE("after a failed sync of the data no flush succeeds, and the index says nothing new") {
  std::mt19937_64 random(6);
  const LayerBytes base = random_content(random, 16 * 4096);
  const Setup setup(base, 4096);
  const auto data = make_fault_device(make_memory_device(base.size()));
  const std::shared_ptr<BlockDevice> index = make_memory_device(setup.index_bytes());
  REQUIRE(ScratchIndex::format(*index, setup.identity, "Cannot make scratch").is_ok());
  {
    const auto disk = setup.open(data, index);
    REQUIRE(write_sync(*disk, 0, random_content(random, 4096)).is_ok());
    data->fail_next(IoOp::kFlush, EIO, 1, 0, 0);
    CHECK(flush_sync(*disk).sys_errno() == EIO);
    CHECK(flush_sync(*disk).sys_errno() == EIO);
    CHECK(write_sync(*disk, 4096, LayerBytes(4096), kIoFua).sys_errno() == EIO);
  }
  CHECK(content_of(*setup.open(data, index)) == base);
}

TEST_CASE("an index that cannot be written or synced is written again by the next flush") {
  std::mt19937_64 random(7);
  LayerBytes model = random_content(random, 16 * 4096);
  const Setup setup(model, 4096);
  const std::shared_ptr<BlockDevice> data = make_memory_device(model.size());
  const auto index = make_fault_device(make_memory_device(setup.index_bytes()));
  REQUIRE(ScratchIndex::format(*index, setup.identity, "Cannot make scratch").is_ok());
  auto disk = setup.open(data, index);
  const struct {
    IoOp op;
    uint64_t skip;
    bool flush_fails;
  } faults[] = {{IoOp::kWrite, 0, true}, {IoOp::kFlush, 0, true}, {IoOp::kWrite, 1, false}};
  uint64_t block = 0;
  for (const auto& fault : faults) {
    const LayerBytes content = random_content(random, 4096);
    REQUIRE(write_sync(*disk, block * 4096, content).is_ok());
    std::copy(content.begin(), content.end(),
              model.begin() + static_cast<ptrdiff_t>(block++ * 4096));
    index->fail_next(fault.op, ENOSPC, 1, fault.skip, 0);
    CHECK(flush_sync(*disk).is_ok() == !fault.flush_fails);
    if (fault.flush_fails) CHECK(flush_sync(*disk).is_ok());
    disk = setup.open(data, index);
    CHECK(content_of(*disk) == model);
  }
  // The copies that failed above were not forgotten when their journal was reused.
  for (int i = 0; i < 3; ++i) {
    const LayerBytes content = random_content(random, 4096);
    REQUIRE(write_sync(*disk, (8 + i) * 4096UL, content).is_ok());
    std::copy(content.begin(), content.end(), model.begin() + (8 + i) * 4096);
    CHECK(flush_sync(*disk).is_ok());
  }
  CHECK(content_of(*setup.open(data, index)) == model);
}

TEST_CASE("a damaged byte or a lost page of the index is refused, or was of no account") {
  std::mt19937_64 random(14);
  LayerBytes model = random_content(random, 40 * 4096 + 100);
  const Setup setup(model, 4096);
  const std::shared_ptr<BlockDevice> data = make_memory_device(model.size());
  const std::shared_ptr<BlockDevice> index = make_memory_device(setup.index_bytes());
  REQUIRE(ScratchIndex::format(*index, setup.identity, "Cannot make scratch").is_ok());
  for (uint64_t flushes = 1; flushes <= 4; ++flushes) {
    const auto disk = setup.open(data, index);
    for (const uint64_t block : {flushes * 3, flushes * 3 + 20}) {
      const LayerBytes content = random_content(random, 4096);
      REQUIRE(write_sync(*disk, block * 4096, content).is_ok());
      std::copy(content.begin(), content.end(),
                model.begin() + static_cast<ptrdiff_t>(block * 4096));
    }
    REQUIRE(flush_sync(*disk).is_ok());
    LayerBytes whole(index->size_bytes());
    REQUIRE(read_sync(*index, 0, whole).is_ok());
    uint64_t refused = 0;
    const auto check_with = [&](const LayerBytes& damaged) {
      const std::shared_ptr<BlockDevice> device = make_memory_device(damaged.size());
      REQUIRE(write_sync(*device, 0, damaged).is_ok());
      auto scratch = Scratch::open(data, device, setup.identity, "Cannot open scratch");
      if (scratch.is_ok()) {
        ScratchDisk damaged_disk(*setup.below, std::move(scratch).value());
        REQUIRE(content_of(damaged_disk) == model);
        return;
      }
      ++refused;
      const ErrorCode code = scratch.status().code();
      REQUIRE((code == ErrorCode::kCorrupt || code == ErrorCode::kVersion));
    };
    for (size_t i = 0; i < whole.size(); i += i < 4096 ? 1 : 3) {
      CAPTURE(i);
      LayerBytes damaged = whole;
      damaged[i] ^= std::byte{0x04};
      check_with(damaged);
    }
    // The header and the newest journal. The page in place is in that journal, too,
    // and the older journal is of no account any more.
    CHECK(refused > 4096 + 2 * 4096 / 3 - 3);
    CHECK(refused < 4096 + 2 * 4096 / 3 + 3);
    for (size_t page = 0; page < whole.size() / 4096; ++page) {
      CAPTURE(page);
      LayerBytes damaged = whole;
      std::fill_n(damaged.begin() + static_cast<ptrdiff_t>(page * 4096), 4096, std::byte{0});
      check_with(damaged);
    }
    // Pages in place without any journal are not of this world.
    LayerBytes no_journals = whole;
    std::fill(no_journals.begin() + 8192, no_journals.end(), std::byte{0});
    const uint64_t refused_before = refused;
    check_with(no_journals);
    CHECK(refused == refused_before + 1);
  }
}

TEST_CASE("flushes of many threads all end, one cycle at a time") {
  const Setup setup(LayerBytes(64 * 4096), 4096);
  const std::shared_ptr<BlockDevice> data = make_memory_device(64 * 4096);
  const std::shared_ptr<BlockDevice> index = make_memory_device(setup.index_bytes());
  REQUIRE(ScratchIndex::format(*index, setup.identity, "Cannot make scratch").is_ok());
  LayerBytes model(64 * 4096);
  {
    const auto disk = setup.open(data, index);
    std::atomic<int> faults{0};
    std::vector<std::thread> workers;
    for (uint64_t worker = 0; worker < 4; ++worker) {
      workers.emplace_back([&, worker] {
        for (uint64_t i = 0; i < 2000; ++i) {
          const uint64_t block = i % 16 * 4 + worker;
          const auto at = model.begin() + static_cast<ptrdiff_t>(block * 4096);
          std::fill_n(at, 4096, i % 3 == 0 ? std::byte{0} : static_cast<std::byte>(i));
          faults += i % 3 == 0 ? !trim_sync(*disk, block * 4096, 4096).is_ok()
                               : !write_sync(*disk, block * 4096,
                                             LayerBytes(4096, static_cast<std::byte>(i)),
                                             i % 2 == 0 ? kIoFua : 0)
                                      .is_ok();
          faults += !flush_sync(*disk).is_ok();
        }
      });
    }
    for (std::thread& worker : workers) worker.join();
    CHECK(faults == 0);
  }
  CHECK(content_of(*setup.open(data, index)) == model);
}

namespace {

// A disk of two index pages, on devices that forget; block 0 is in page 0, and
// block kSecondPage in page 1.
struct TwoPages {
  static constexpr uint64_t kBlockBytes = 512;
  static constexpr uint64_t kSecondPage = GranuleStates::kGranulesPerPage;
  Setup setup{LayerBytes(kBlockBytes * (kSecondPage + 10)), kBlockBytes};
  std::shared_ptr<VolatileDevice> data =
      std::make_shared<VolatileDevice>(kBlockBytes * (kSecondPage + 10));
  std::shared_ptr<VolatileDevice> index = std::make_shared<VolatileDevice>(setup.index_bytes());

  TwoPages() {
    REQUIRE(ScratchIndex::format(*index, setup.identity, "Cannot make scratch").is_ok());
  }
  static void put(BlockDevice& disk, uint64_t block, uint8_t byte) {
    const LayerBytes content(kBlockBytes, std::byte{byte});
    REQUIRE(write_sync(disk, block * kBlockBytes, content).is_ok());
  }
  // A cycle that changes page 1 alone, and one more, so that both journals have it.
  static void turn_journals(BlockDevice& disk) {
    for (uint64_t i = 0; i < 3; ++i) {
      put(disk, kSecondPage + i, 7);
      REQUIRE(flush_sync(disk).is_ok());
    }
  }
  static bool has(BlockDevice& disk, uint64_t block, uint8_t byte) {
    LayerBytes content(kBlockBytes);
    REQUIRE(read_sync(disk, block * kBlockBytes, content).is_ok());
    return content == LayerBytes(kBlockBytes, std::byte{byte});
  }
};

}  // namespace

TEST_CASE("a page that only a journal has survives the reuse of the journals") {
  TwoPages t;
  {
    const auto disk = t.setup.open(t.data, t.index);
    t.put(*disk, 0, 5);
    REQUIRE(flush_sync(*disk).is_ok());
  }
  t.index->crash_keeping_nothing();  // the copy of page 0 to its place is lost
  {
    const auto disk = t.setup.open(t.data, t.index);
    CHECK(t.has(*disk, 0, 5));
    t.turn_journals(*disk);
  }
  t.index->crash_keeping_nothing();
  CHECK(t.has(*t.setup.open(t.data, t.index), 0, 5));
}

TEST_CASE("a copy that failed is made good before its journal is reused") {
  TwoPages t;
  const auto faulty = make_fault_device(t.index);
  {
    const auto disk = t.setup.open(t.data, faulty);
    t.put(*disk, 0, 5);
    faulty->fail_next(IoOp::kWrite, EIO, 1, 1, 0);  // the journal is written, the copy is not
    REQUIRE(flush_sync(*disk).is_ok());
    t.turn_journals(*disk);
  }
  CHECK(t.has(*t.setup.open(t.data, t.index), 0, 5));
}

TEST_CASE("a page that is gone from the index is not an empty page") {
  TwoPages t;
  {
    const auto disk = t.setup.open(t.data, t.index);
    t.put(*disk, 0, 5);
    REQUIRE(flush_sync(*disk).is_ok());
    t.turn_journals(*disk);
  }
  REQUIRE(write_zeroes_sync(*t.index, 4096, 4096).is_ok());
  CHECK(Scratch::open(t.data, t.index, t.setup.identity, "Cannot open scratch").status().code() ==
        ErrorCode::kCorrupt);
}

TEST_CASE("what is written while the data is being synced is not in that flush's index") {
  TwoPages t;
  const auto late = std::make_shared<LateFlushDevice>(t.data);
  {
    const auto disk = t.setup.open(late, t.index);
    t.put(*disk, 0, 5);
    late->late = true;
    IoRequest flush;
    flush.op = IoOp::kFlush;
    int answered = 0;
    flush.push([](IoRequest&, void* context, uint64_t,
                  int error) noexcept { *static_cast<int*>(context) += error == 0 ? 1 : 100; },
               &answered);
    disk->submit(flush);
    t.put(*disk, 1, 6);  // the sync has no part of it any more
    CHECK(answered == 0);
    late->answer();
    CHECK(answered == 1);
  }
  t.data->crash_keeping_nothing();
  const auto disk = t.setup.open(t.data, t.index);
  CHECK(t.has(*disk, 0, 5));
  LayerBytes states(4096);
  // Not even marked: the block below still holds.
  REQUIRE(read_sync(*t.index, 4096, states).is_ok());
  CHECK((std::to_integer<unsigned>(states[16]) & 0xfU) == 1);
}
