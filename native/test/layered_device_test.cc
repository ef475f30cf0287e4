// LayeredDevice as a disk: the contract, a model of base, layers and scratch,
// many threads, what a restart finds, and what is refused.
#include <doctest/doctest.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <filesystem>
#include <functional>
#include <mutex>
#include <thread>

#include "device/fault_device.h"
#include "device/memory_device.h"
#include "device_contract.h"
#include "layer_builder.h"
#include "layered_scene.h"
#include "layers/open_layered_device.h"
#include "scratch_file.h"
#include "spawn_tool.h"

using namespace tidemark;
using device_contract::Probe;

namespace {

void check_extents(BlockDevice& device, const LayerBytes& expected) {
  uint64_t offset = 0;
  for (const DeviceExtent& extent : device_contract::all_extents(device, 4)) {
    if ((extent.flags & kExtentZero) != 0) {
      REQUIRE(device_contract::is_zero(expected.data() + offset, extent.length_bytes));
    }
    offset += extent.length_bytes;
  }
  REQUIRE(offset == device.size_bytes());
}

// Completes its reads later, on a thread of its own.
class LateDevice final : public BlockDevice {
 public:
  explicit LateDevice(std::shared_ptr<BlockDevice> inner)
      : inner_(std::move(inner)), thread_([this] { run(); }) {}
  ~LateDevice() override {
    {
      const std::lock_guard lock(mutex_);
      ending_ = true;
    }
    changed_.notify_one();
    thread_.join();
  }
  uint64_t size_bytes() const noexcept override { return inner_->size_bytes(); }
  const DeviceTraits& traits() const noexcept override { return inner_->traits(); }
  void submit(IoRequest& request) noexcept override {
    {
      const std::lock_guard lock(mutex_);
      late_.push_back(&request);
    }
    changed_.notify_one();
  }

 private:
  void run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [&] { return ending_ || !late_.empty(); });
      if (late_.empty()) return;
      IoRequest* request = late_.front();
      late_.pop_front();
      lock.unlock();
      inner_->submit(*request);
      lock.lock();
    }
  }

  std::shared_ptr<BlockDevice> inner_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<IoRequest*> late_;
  bool ending_ = false;
  std::thread thread_;
};

void on_small_stack(std::function<void()> body) {
  pthread_attr_t attributes;
  REQUIRE(::pthread_attr_init(&attributes) == 0);
  REQUIRE(::pthread_attr_setstacksize(&attributes, 256 * 1024) == 0);
  pthread_t thread;
  const auto run = [](void* context) -> void* {
    (*static_cast<std::function<void()>*>(context))();
    return nullptr;
  };
  REQUIRE(::pthread_create(&thread, &attributes, run, &body) == 0);
  REQUIRE(::pthread_join(thread, nullptr) == 0);
  REQUIRE(::pthread_attr_destroy(&attributes) == 0);
}

}  // namespace

TEST_CASE("a layered device on an empty base keeps the contract of a device") {
  ScratchDirectory directory;
  int count = 0;
  run_device_contract("layered", [&](uint64_t size) {
    LayeredDeviceParameters parameters;
    parameters.disk = kDisk;
    parameters.size_bytes = size;
    parameters.granularity_bytes = ++count % 2 == 0 ? 4096 : 32768;
    parameters.base = make_memory_device(size / 2);
    parameters.scratch_path = directory.path() + "/" + std::to_string(count);
    return open_device(parameters);
  });
}

TEST_CASE(
    "a layered device behaves as a vector of bytes does, over restarts, and its layers stay") {
  for (uint64_t seed = 1; seed <= 24; ++seed) {
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    const uint32_t granularity = 512U << (random() % 6);
    const uint64_t size = granularity * (20 + random() % 60) + random() % granularity;
    Chain chain(random, size, granularity, random() % 6);
    const auto files_before = chain.layer_files();
    auto device = open_device(chain.parameters);
    check_content(*device, chain.disk);
    for (int i = 0; i < 120; ++i) {
      random_change(*device, chain.disk, random);
      const uint64_t offset = random() % size;
      LayerBytes seen(1 + random() % (size - offset));
      REQUIRE(read_sync(*device, offset, seen).is_ok());
      REQUIRE(std::equal(seen.begin(), seen.end(),
                         chain.disk.begin() + static_cast<ptrdiff_t>(offset)));
      if (random() % 20 != 0) continue;
      check_extents(*device, chain.disk);
      REQUIRE(flush_sync(*device).is_ok());
      if (random() % 2 != 0) continue;
      device.reset();
      device = open_device(chain.parameters);
      check_content(*device, chain.disk);
    }
    check_content(*device, chain.disk);
    check_extents(*device, chain.disk);
    CHECK(chain.layer_files() == files_before);
    for (const auto& layer : chain.parameters.layers) CHECK(layer->verify().is_ok());
  }
}

TEST_CASE("without a scratch it is the recovery point, read-only") {
  std::mt19937_64 random(77);
  Chain chain(random, 50 * 4096 + 123, 4096, 4);
  chain.parameters.scratch_path.clear();
  const auto device = open_device(chain.parameters);
  CHECK(device->traits().read_only);
  check_content(*device, chain.disk);
  check_extents(*device, chain.disk);
  CHECK(write_sync(*device, 0, LayerBytes(10)).sys_errno() == EROFS);
  CHECK(trim_sync(*device, 0, 4096).sys_errno() == EROFS);
  CHECK(flush_sync(*device).is_ok());
  check_content(*device, chain.disk);
}

TEST_CASE("a chain of two hundred layers reads as one disk") {
  std::mt19937_64 random(200);
  Chain chain(random, 100 * 512, 512, 200);
  const auto device = open_device(chain.parameters);
  check_content(*device, chain.disk);
  random_change(*device, chain.disk, random);
  check_content(*device, chain.disk);
}

TEST_CASE("layers that were unlinked after opening are still served") {
  std::mt19937_64 random(5);
  Chain chain(random, 40 * 4096, 4096, 3);
  for (const std::string& path : chain.layer_paths) REQUIRE(::unlink(path.c_str()) == 0);
  check_content(*open_device(chain.parameters), chain.disk);
}

TEST_CASE("holes and zeroes of base, layers and scratch are told apart from data") {
  ScratchDirectory directory;
  std::mt19937_64 random(6);
  LayerModel model;
  model.identity = {kDisk, uuid_of(2), 1, 1 << 20, 65536};
  model.blocks[2 * 65536] = random_content(random, 65536);
  model.blocks[3 * 65536] = {};
  LayeredDeviceParameters parameters;
  parameters.disk = kDisk;
  parameters.size_bytes = 1 << 20;
  parameters.granularity_bytes = 65536;
  parameters.base = make_memory_device(10 * 65536);
  parameters.scratch_path = directory.path() + "/scratch";
  for (const uint64_t block : {0, 3, 5}) {
    REQUIRE(write_sync(*parameters.base, block * 65536, random_content(random, 65536)).is_ok());
  }
  parameters.layers = {make_layer(directory.path() + "/layer", model, random)};
  const auto device = open_device(parameters);
  REQUIRE(trim_sync(*device, 5 * 65536, 65536).is_ok());
  REQUIRE(write_sync(*device, 15 * 65536, random_content(random, 100)).is_ok());
  std::string map;
  uint64_t offset = 0;
  for (const DeviceExtent& extent : device_contract::all_extents(*device, 100)) {
    const bool zero = extent.flags == (kExtentHole | kExtentZero);
    REQUIRE((zero || extent.flags == 0));
    map.append(extent.length_bytes / 65536, zero ? '.' : 'D');
    offset += extent.length_bytes;
  }
  CHECK(map == "D.D............D");
}

TEST_CASE("writes of parts of the same blocks, by many threads, lose no byte of either") {
  constexpr size_t kWorkers = 4;
  constexpr uint64_t kGranularity = 16384;
  constexpr uint64_t kGranules = 200;
  constexpr uint64_t kGroups = kGranularity / 512 / kWorkers;
  ScratchDirectory directory;
  std::mt19937_64 random(8);
  const LayerBytes base = random_content(random, kGranules * kGranularity);
  LayeredDeviceParameters parameters;
  parameters.disk = kDisk;
  parameters.size_bytes = base.size();
  parameters.granularity_bytes = kGranularity;
  // While one waits for its fill, the others come.
  parameters.base = std::make_shared<LateDevice>(memory_with(base));
  for (uint64_t round = 0; round < 3; ++round) {
    parameters.scratch_path = directory.path() + "/" + std::to_string(round);
    const auto device = open_device(parameters);
    LayerBytes model = base;
    std::atomic<int> faults{0};
    std::vector<std::thread> workers;
    // Each worker owns every fourth 512-byte cell: granules are shared by all, and
    // all walk over them in one order.
    for (size_t worker = 0; worker < kWorkers; ++worker) {
      workers.emplace_back([&, worker] {
        std::mt19937_64 own(round * 100 + worker);
        for (uint64_t i = 0; i < kGranules * 3; ++i) {
          const uint64_t granule = i / 3 * 7 % kGranules;
          const uint64_t group = granule * kGroups + own() % kGroups;
          const uint64_t offset = (group * kWorkers + worker) * 512;
          const unsigned what = own() % 16;
          LayerBytes content(512);
          if (what > 1) content = device_contract::random_bytes(own, 512);
          std::copy(content.begin(), content.end(), model.begin() + static_cast<ptrdiff_t>(offset));
          const Status status = what == 0 ? trim_sync(*device, offset, 512)
                                : what == 1
                                    ? write_zeroes_sync(*device, offset, 512)
                                    : write_sync(*device, offset, content, what == 2 ? kIoFua : 0);
          faults += !status.is_ok();
          LayerBytes seen(512);
          faults += !read_sync(*device, offset, seen).is_ok() || seen != content;
        }
      });
    }
    for (std::thread& worker : workers) worker.join();
    CHECK(faults == 0);
    check_content(*device, model);
  }
}

TEST_CASE("writes that waited for a trim of their block lose nothing of each other") {
  ScratchDirectory directory;
  const auto slow = make_fault_device(make_memory_device(8 * 4096));
  LayeredDeviceParameters parameters;
  parameters.disk = kDisk;
  parameters.size_bytes = 8 * 4096;
  parameters.base = slow;
  parameters.scratch_path = directory.path() + "/scratch";
  const auto device = open_device(parameters);
  LayerBytes model(8 * 4096);
  REQUIRE(write_sync(*device, 0, LayerBytes(4096, std::byte{9})).is_ok());
  slow->hold(IoOp::kRead);
  // Holds blocks 0 and 1 until block 1 is filled; then block 0 is zero.
  Probe trim(IoOp::kTrim, 0, 4096 + 100);
  trim.submit(*device);
  std::deque<Probe> writes;
  for (uint64_t i = 0; i < 4; ++i) {
    Probe& probe = writes.emplace_back(IoOp::kWrite, i * 1000, 10);
    std::fill_n(probe.data(), 10, static_cast<std::byte>(i + 1));
    std::fill_n(model.begin() + static_cast<ptrdiff_t>(i * 1000), 10,
                static_cast<std::byte>(i + 1));
    probe.submit(*device);
  }
  CHECK(slow->held_count() == 1);
  slow->release_held();
  CHECK(trim.wait() == 0);
  for (Probe& probe : writes) CHECK(probe.wait() == 0);
  check_content(*device, model);
}

TEST_CASE("blocks that say who they are survive trims, whole writes and flushes of many threads") {
  constexpr uint64_t kBlocks = 64;
  ScratchDirectory directory;
  LayeredDeviceParameters parameters;
  parameters.disk = kDisk;
  parameters.size_bytes = kBlocks * 4096;
  parameters.granularity_bytes = 8192;
  parameters.base = make_memory_device(kBlocks * 4096);
  parameters.scratch_path = directory.path() + "/scratch";
  const auto device = open_device(parameters);
  std::atomic<int> faults{0};
  std::array<std::atomic<uint64_t>, kBlocks> versions{};
  std::vector<std::thread> workers;
  for (uint64_t worker = 0; worker < 4; ++worker) {
    workers.emplace_back([&, worker] {
      std::mt19937_64 random(worker);
      for (uint64_t version = 1; version <= 400; ++version) {
        const uint64_t block = random() % (kBlocks / 4) * 4 + worker;
        LayerBytes content(4096);
        if (version % 5 == 0) {
          faults += !trim_sync(*device, block * 4096, 4096).is_ok();
        } else {
          device_contract::describe_block(content.data(), block, version);
          faults += !write_sync(*device, block * 4096, content).is_ok();
        }
        versions[block] = version % 5 == 0 ? 0 : version;
        if (version % 50 == 0) faults += !flush_sync(*device).is_ok();
        // Another's block is in flight: any version, but of that block and whole cells.
        const uint64_t other = random() % kBlocks;
        faults += !read_sync(*device, other * 4096, content).is_ok();
        uint64_t index = 0;
        std::memcpy(&index, content.data(), 8);
        faults += index != other && index != 0;
      }
    });
  }
  for (std::thread& worker : workers) worker.join();
  CHECK(faults == 0);
  for (uint64_t block = 0; block < kBlocks; ++block) {
    LayerBytes content(4096);
    REQUIRE(read_sync(*device, block * 4096, content).is_ok());
    const uint64_t version = versions[block];
    if (version == 0) {
      CHECK(device_contract::is_zero(content));
    } else {
      CHECK(device_contract::is_block(content.data(), block, version));
    }
  }
}

TEST_CASE("a slow base holds up who needs it, and nobody else") {
  ScratchDirectory directory;
  std::mt19937_64 random(9);
  const LayerBytes base = random_content(random, 16 * 4096);
  LayerBytes model = base;
  const auto slow = make_fault_device(memory_with(base));
  LayeredDeviceParameters parameters;
  parameters.disk = kDisk;
  parameters.size_bytes = base.size();
  parameters.base = slow;
  parameters.scratch_path = directory.path() + "/scratch";
  const auto device = open_device(parameters);
  const auto submit_write = [&](Probe& probe, uint64_t offset, size_t length) {
    std::fill_n(probe.data(), length, std::byte{0x5c});
    std::fill_n(model.begin() + static_cast<ptrdiff_t>(offset), length, std::byte{0x5c});
    probe.submit(*device);
  };
  slow->hold(IoOp::kRead);
  // More than the stack below would hold if each one's end started the next inside it.
  std::deque<Probe> waiting;
  for (uint64_t i = 0; i < 3000; ++i) {
    submit_write(waiting.emplace_back(IoOp::kWrite, 4096 + i % 4000, 1), 4096 + i % 4000, 1);
  }
  CHECK(slow->held_count() == 1);
  Probe whole(IoOp::kWrite, 8192, 4096);
  submit_write(whole, 8192, 4096);
  CHECK(whole.wait() == 0);
  Probe same(IoOp::kRead, 8192, 4096);
  CHECK(same.run(*device) == 0);
  CHECK(trim_sync(*device, 3 * 4096, 4096).is_ok());
  std::fill_n(model.begin() + 3 * 4096, 4096, std::byte{0});
  CHECK(flush_sync(*device).is_ok());
  // Waits behind the others, though it needs nothing of the base.
  Probe trim(IoOp::kTrim, 4096, 4096);
  trim.submit(*device);
  on_small_stack([&] { slow->release_held(); });
  for (Probe& probe : waiting) CHECK(probe.wait() == 0);
  CHECK(trim.wait() == 0);
  std::fill_n(model.begin() + 4096, 4096, std::byte{0});
  check_content(*device, model);
}

TEST_CASE("a base that fails fails the request, loses nothing, and may be asked again") {
  ScratchDirectory directory;
  std::mt19937_64 random(10);
  LayerBytes model = random_content(random, 16 * 4096);
  const auto faulty = make_fault_device(memory_with(model));
  LayeredDeviceParameters parameters;
  parameters.disk = kDisk;
  parameters.size_bytes = model.size();
  parameters.base = faulty;
  parameters.scratch_path = directory.path() + "/scratch";
  const auto device = open_device(parameters);
  const LayerBytes content = random_content(random, 4096);
  REQUIRE(write_sync(*device, 4096, content).is_ok());
  std::copy(content.begin(), content.end(), model.begin() + 4096);
  LayerBytes seen(3 * 4096);
  faulty->fail_next(IoOp::kRead, EIO, 1, 1, 0);  // the second part of a read in three
  CHECK(read_sync(*device, 0, seen).sys_errno() == EIO);
  faulty->fail_next(IoOp::kRead, ENOMEDIUM, 1, 0, 0);  // the fill
  CHECK(write_sync(*device, 8192 + 100, std::span(content).first(10)).sys_errno() == ENOMEDIUM);
  faulty->fail_next(IoOp::kRead, EIO, 1, 1, 0);  // the second of two fills
  CHECK(write_sync(*device, 3 * 4096 + 100, content).sys_errno() == EIO);
  check_content(*device, model);
  CHECK(write_sync(*device, 3 * 4096 + 100, content).is_ok());
  std::copy(content.begin(), content.end(), model.begin() + 3 * 4096 + 100);
  check_content(*device, model);
}
