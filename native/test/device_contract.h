// The contract of BlockDevice (device/block_device.h) as a suite. Every
// implementation runs it: call run_device_contract() from a TEST_CASE of its own.
//
// `make` gives a device of the stated size that reads as zeroes; the sizes are
// multiples of 1 MiB. What the suite compares with is a plain vector of bytes, or
// the number that a block was written with.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <deque>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "device/block_device.h"
#include "device/sync_io.h"
#include "device_probe.h"

namespace tidemark::device_contract {

// --- Identity and single requests ------------------------------------------------------------

inline void check_identity(const MakeDevice& make) {
  const auto device = make(3 * kMiB);
  const DeviceTraits& traits = device->traits();
  CHECK(device->size_bytes() == 3 * kMiB);
  CHECK(traits.minimum_block_bytes >= 1);
  CHECK((traits.minimum_block_bytes & (traits.minimum_block_bytes - 1)) == 0);
  CHECK((traits.preferred_block_bytes & (traits.preferred_block_bytes - 1)) == 0);
  CHECK(traits.preferred_block_bytes >= traits.minimum_block_bytes);
  CHECK(traits.engine != "");
  CHECK(is_zero(read_all(*device)));
}

inline void check_bounds(const MakeDevice& make) {
  const auto device = make(2 * kMiB);
  const uint64_t size = device->size_bytes();
  const uint64_t step = device->traits().minimum_block_bytes;
  std::mt19937_64 random(1);
  Bytes model(size);
  const TestRange ranges[] = {
      {0, size}, {0, step}, {size - step, step}, {step, size - 2 * step}, {4096, 65536}};
  for (const TestRange& range : ranges) {
    const auto [offset, length] = range;
    const Bytes content = random_bytes(random, length);
    std::copy(content.begin(), content.end(), model.begin() + static_cast<ptrdiff_t>(offset));
    CHECK(write_sync(*device, offset, content).is_ok());
    Probe read(IoOp::kRead, offset, length);
    CHECK(read.run(*device) == 0);
    CHECK(std::memcmp(read.data(), content.data(), length) == 0);
    CHECK(read.fences_hold());
    CHECK_MESSAGE(read_all(*device) == model,
                  "offset " << range.offset << " length " << range.length);
  }
}

inline void check_any_buffer_address(const MakeDevice& make) {
  const auto device = make(2 * kMiB);
  const uint64_t step = device->traits().minimum_block_bytes;
  std::mt19937_64 random(2);
  // Longer than any buffer that a device may put in between.
  for (const uint64_t length : {step, 8 * step, kMiB + 4096}) {
    const Bytes content = random_bytes(random, length);
    Bytes odd(length + 1);
    std::copy(content.begin(), content.end(), odd.begin() + 1);
    CHECK(write_sync(*device, step, std::span(odd).subspan(1)).is_ok());
    std::fill(odd.begin(), odd.end(), Probe::kFence);
    CHECK(read_sync(*device, step, std::span(odd).subspan(1)).is_ok());
    CHECK(std::equal(content.begin(), content.end(), odd.begin() + 1));
    CHECK(odd[0] == Probe::kFence);
  }
}

inline void check_exactly_one_completion(const MakeDevice& make) {
  const auto device = make(kMiB);
  std::deque<Probe> probes;
  for (const uint32_t flags : {0U, kIoFua}) {
    probes.emplace_back(IoOp::kWrite, 0, 8192, flags);
    probes.emplace_back(IoOp::kRead, 4096, 8192, 0);
    probes.emplace_back(IoOp::kTrim, 65536, 65536, flags);
    probes.emplace_back(IoOp::kWriteZeroes, 131072, 65536, flags);
    probes.emplace_back(IoOp::kFlush, 0, 0, 0);
  }
  for (Probe& probe : probes) probe.submit(*device);
  for (Probe& probe : probes) CHECK(probe.wait() == 0);
  // A second completion that follows the first on its thread has happened by now.
  for (int i = 0; i < 10; ++i) CHECK(flush_sync(*device).is_ok());
  for (const Probe& probe : probes) {
    CHECK(probe.extra_completions() == 0);
    CHECK(probe.fences_hold());
  }
}

inline void check_source_is_not_modified(const MakeDevice& make) {
  const auto device = make(kMiB);
  std::mt19937_64 random(3);
  const Bytes content = random_bytes(random, 64 * 1024);
  Probe write(IoOp::kWrite, 4096, content.size());
  std::memcpy(write.data(), content.data(), content.size());
  CHECK(write.run(*device) == 0);
  CHECK(std::memcmp(write.data(), content.data(), content.size()) == 0);
  CHECK(write.fences_hold());
}

// --- Ranges without data ---------------------------------------------------------------------

inline void check_write_zeroes(const MakeDevice& make) {
  const auto device = make(4 * kMiB);
  const uint64_t step = device->traits().minimum_block_bytes;
  std::mt19937_64 random(4);
  for (const uint32_t flags :
       {0U, kIoNoHole, kIoFastZero, kIoNoHole | kIoFastZero, kIoFua, kIoFua | kIoNoHole}) {
    CAPTURE(flags);
    Bytes model = random_bytes(random, 4 * kMiB);
    REQUIRE(write_sync(*device, 0, model).is_ok());
    const TestRange ranges[] = {
        {65536, 131072}, {kMiB + step, 3 * step}, {2 * kMiB - step, kMiB + 7 * step}};
    for (const auto& [offset, length] : ranges) {
      Probe zero(IoOp::kWriteZeroes, offset, length, flags);
      const int error = zero.run(*device);
      const auto begin = model.begin() + static_cast<ptrdiff_t>(offset);
      if (error == 0) std::fill(begin, begin + static_cast<ptrdiff_t>(length), std::byte{0});
      // Refused: then nothing may have been altered, which the comparison shows.
      const bool may_refuse = (flags & kIoFastZero) != 0 && error == ENOTSUP;
      CHECK((error == 0 || may_refuse));
      CHECK(read_all(*device) == model);
    }
  }
}

inline void check_trim(const MakeDevice& make) {
  const auto device = make(4 * kMiB);
  std::mt19937_64 random(5);
  Bytes model = random_bytes(random, 4 * kMiB);
  REQUIRE(write_sync(*device, 0, model).is_ok());
  const uint64_t step = device->traits().minimum_block_bytes;
  const uint64_t offset = kMiB - step;
  const uint64_t length = kMiB + 3 * step;
  CHECK(trim_sync(*device, offset, length).is_ok());
  const Bytes content = read_all(*device);
  CHECK(std::equal(model.begin(), model.begin() + offset, content.begin()));
  CHECK(
      std::equal(model.begin() + offset + length, model.end(), content.begin() + offset + length));
  if (device->traits().trim_reads_zero) CHECK(is_zero(content.data() + offset, length));
  REQUIRE(write_sync(*device, 0, model).is_ok());
  CHECK(read_all(*device) == model);
}

// --- Extents ---------------------------------------------------------------------------------

// The extents of the whole device, asked for in portions of at most `portion`.
inline std::vector<DeviceExtent> all_extents(BlockDevice& device, size_t portion) {
  std::vector<DeviceExtent> all;
  uint64_t offset = 0;
  while (offset < device.size_bytes()) {
    std::vector<DeviceExtent> some;
    const uint64_t rest = device.size_bytes() - offset;
    REQUIRE(device.query_extents("base:allocation", offset, rest, portion, some).is_ok());
    REQUIRE(!some.empty());
    REQUIRE(some.size() <= portion);
    for (const DeviceExtent& extent : some) {
      REQUIRE(extent.length_bytes > 0);
      REQUIRE(extent.length_bytes <= device.size_bytes() - offset);
      offset += extent.length_bytes;
      all.push_back(extent);
    }
  }
  return all;
}

inline void check_extents(const MakeDevice& make) {
  const auto device = make(16 * kMiB);
  std::mt19937_64 random(6);
  for (const uint64_t offset : {kMiB, 5 * kMiB, 15 * kMiB}) {
    REQUIRE(write_sync(*device, offset, random_bytes(random, 300 * 1024)).is_ok());
  }
  REQUIRE(trim_sync(*device, 5 * kMiB, 64 * 1024).is_ok());
  const Bytes content = read_all(*device);
  for (const size_t portion : {size_t{1}, size_t{2}, size_t{1000}}) {
    CAPTURE(portion);
    uint64_t offset = 0;
    for (const DeviceExtent& extent : all_extents(*device, portion)) {
      if ((extent.flags & kExtentZero) != 0) {
        CHECK(is_zero(content.data() + offset, extent.length_bytes));
      }
      offset += extent.length_bytes;
    }
    CHECK(offset == device->size_bytes());
  }
}

inline void check_extent_queries(const MakeDevice& make) {
  const auto device = make(4 * kMiB);
  bool lists_allocation = false;
  for (const std::string& name : device->extent_contexts()) {
    lists_allocation = lists_allocation || name == "base:allocation";
  }
  CHECK(lists_allocation);
  std::vector<DeviceExtent> extents{{7, 7}};
  CHECK(device->query_extents("no:such", 0, kMiB, 10, extents).code() == ErrorCode::kNotFound);
  CHECK(device->query_extents("base:allocation", kMiB, kMiB + 4096, 10, extents).is_ok());
  REQUIRE(extents.size() > 1);
  CHECK(extents[0].length_bytes == 7);  // appended to
  uint64_t covered = 0;
  for (size_t i = 1; i < extents.size(); ++i) covered += extents[i].length_bytes;
  CHECK(covered <= kMiB + 4096);
}

// --- Many in flight --------------------------------------------------------------------------

// A block that says which block it is, and which write of it.
inline void describe_block(std::byte* block, uint64_t index, uint64_t version) {
  for (size_t i = 0; i < 4096; i += 16) {
    std::memcpy(block + i, &index, 8);
    std::memcpy(block + i + 8, &version, 8);
  }
}

inline bool is_block(const std::byte* block, uint64_t index, uint64_t version) {
  Bytes expected(4096);
  describe_block(expected.data(), index, version);
  return std::memcmp(block, expected.data(), 4096) == 0;
}

// One thread of check_many_in_flight: writes its blocks in batches, reads them back.
inline void write_and_verify(BlockDevice& device, uint64_t worker, uint64_t worker_count,
                             uint64_t block_count, std::atomic<int>& faults) {
  constexpr uint64_t kRounds = 8;
  std::mt19937_64 random(100 + worker);
  std::vector<uint64_t> mine;
  for (uint64_t i = worker; i < block_count; i += worker_count) mine.push_back(i);
  for (uint64_t round = 1; round <= kRounds; ++round) {
    std::shuffle(mine.begin(), mine.end(), random);
    std::deque<Probe> probes;
    for (const uint64_t block : mine) {
      Probe& probe =
          probes.emplace_back(IoOp::kWrite, block * 4096, 4096, random() % 16 == 0 ? kIoFua : 0);
      describe_block(probe.data(), block, round);
      probe.submit(device);
    }
    for (Probe& probe : probes) faults += probe.wait() != 0;
    faults += !flush_sync(device).is_ok();
    probes.clear();
    for (const uint64_t block : mine) {
      probes.emplace_back(IoOp::kRead, block * 4096, 4096).submit(device);
    }
    for (size_t i = 0; i < mine.size(); ++i) {
      faults += probes[i].wait() != 0 || !is_block(probes[i].data(), mine[i], round);
    }
  }
}

inline void check_many_in_flight(const MakeDevice& make) {
  constexpr uint64_t kWorkers = 4;
  const auto device = make(kMiB);
  std::atomic<int> faults{0};
  std::vector<std::thread> workers;
  for (uint64_t worker = 0; worker < kWorkers; ++worker) {
    workers.emplace_back([&, worker] {
      write_and_verify(*device, worker, kWorkers, device->size_bytes() / 4096, faults);
    });
  }
  for (std::thread& worker : workers) worker.join();
  CHECK(faults == 0);
}

// Overlapping requests have no order; each byte still is what one of them made it.
inline void check_overlapping_writes(const MakeDevice& make) {
  constexpr uint64_t kWorkers = 4;
  const auto device = make(kMiB);
  std::vector<std::thread> workers;
  std::atomic<int> faults{0};
  for (uint64_t worker = 1; worker <= kWorkers; ++worker) {
    workers.emplace_back([&, worker] {
      const Bytes content(128 * 1024, static_cast<std::byte>(worker));
      for (int i = 0; i < 20; ++i) {
        faults += !write_sync(*device, 4096, content).is_ok();
        Bytes seen(content.size());
        faults += !read_sync(*device, 4096, seen).is_ok();
        for (const std::byte byte : seen) {
          faults += byte == std::byte{0} || byte > std::byte{kWorkers};
        }
        // Not over what the others write: a block of zeroes is no one's content.
        faults += !write_zeroes_sync(*device, 512 * 1024, 65536).is_ok();
      }
    });
  }
  for (std::thread& worker : workers) worker.join();
  CHECK(faults == 0);
}

inline void check_submit_from_completion(const MakeDevice& make) {
  constexpr size_t kChain = 64;
  const auto device = make(kMiB);
  std::deque<Probe> chain;
  for (size_t i = 0; i < kChain; ++i) {
    const IoOp op = i % 2 == 0 ? IoOp::kWrite : IoOp::kFlush;
    chain.emplace_back(op, op == IoOp::kWrite ? i * 4096 : 0, op == IoOp::kWrite ? 4096 : 0,
                       i % 4 == 0 ? kIoFua : 0);
    if (op == IoOp::kWrite) describe_block(chain.back().data(), i, 1);
  }
  for (size_t i = 0; i + 1 < kChain; ++i) {
    chain[i].after = [&, i] { chain[i + 1].submit(*device); };
  }
  chain[0].submit(*device);
  for (Probe& probe : chain) CHECK(probe.wait() == 0);
  const Bytes content = read_all(*device);
  for (size_t i = 0; i < kChain; i += 2) CHECK(is_block(content.data() + i * 4096, i, 1));
}

// The owner may let go as soon as it has seen the last completion, which it sees on
// another thread before the completing one has returned, or on that thread itself.
inline void check_destruction(const MakeDevice& make) {
  for (int round = 0; round < 20; ++round) {
    auto device = make(kMiB);
    Probe flush(IoOp::kFlush, 0, 0);
    Probe write(IoOp::kWrite, 0, 4096, kIoFua);
    write.submit(*device);
    flush.submit(*device);
    CHECK(write.wait() == 0);
    CHECK(flush.wait() == 0);
    device.reset();
  }
  for (int round = 0; round < 20; ++round) {
    auto device = make(kMiB);
    BlockDevice& raw = *device;
    Probe write(IoOp::kWrite, 0, 4096, kIoFua);
    write.after = [&] { device.reset(); };
    CHECK(write.run(raw) == 0);
  }
}

// --- Growing ---------------------------------------------------------------------------------

// Some cannot, and a block device only when its administrator has grown it.
inline bool can_resize(const MakeDevice& make) { return make(kMiB)->resize(2 * kMiB).is_ok(); }

inline void check_resize(const MakeDevice& make) {
  if (!can_resize(make)) return;
  const auto device = make(2 * kMiB);
  std::mt19937_64 random(5);
  Bytes model = random_bytes(random, 2 * kMiB);
  REQUIRE(write_sync(*device, 0, model).is_ok());
  CHECK(device->resize(kMiB).code() == ErrorCode::kInvalidArgument);
  CHECK(device->resize(UINT64_MAX).code() == ErrorCode::kInvalidArgument);
  CHECK(device->resize(2 * kMiB).is_ok());
  CHECK(device->size_bytes() == 2 * kMiB);
  const Status grown = device->resize(3 * kMiB);
  CHECK_MESSAGE(grown.is_ok(), grown.message());
  CHECK(device->size_bytes() == 3 * kMiB);
  model.resize(3 * kMiB);
  CHECK(read_all(*device) == model);
  const Bytes content = random_bytes(random, kMiB);
  REQUIRE(write_sync(*device, 3 * kMiB / 2, content).is_ok());
  std::copy(content.begin(), content.end(), model.begin() + 3 * kMiB / 2);
  CHECK(read_all(*device) == model);
}

// Writers go as far as the size they see; what they wrote is there afterwards.
inline void check_resize_under_load(const MakeDevice& make) {
  if (!can_resize(make)) return;
  constexpr uint64_t kSteps = 24;
  const auto device = make(kMiB);
  std::atomic<bool> is_grown{false};
  std::atomic<int> failures{0};
  const auto write_until_grown = [&](uint64_t thread) {
    Bytes block(4096);
    for (uint64_t round = 0; !is_grown.load() || round == 0; ++round) {
      const uint64_t blocks = device->size_bytes() / 4096;
      for (uint64_t index = thread; index < blocks; index += 2) {
        describe_block(block.data(), index, 1);
        if (!write_sync(*device, index * 4096, block).is_ok()) ++failures;
      }
    }
  };
  std::thread first(write_until_grown, 0);
  std::thread second(write_until_grown, 1);
  for (uint64_t step = 1; step <= kSteps; ++step) {
    CHECK(device->resize(kMiB + step * 65536).is_ok());
  }
  is_grown.store(true);
  first.join();
  second.join();
  write_until_grown(0);
  CHECK(failures.load() == 0);
  const Bytes content = read_all(*device);
  CHECK(content.size() == kMiB + kSteps * 65536);
  for (uint64_t index = 0; index < kMiB / 4096; ++index) {
    CHECK(is_block(content.data() + index * 4096, index, 1));
  }
}

// --- Model -----------------------------------------------------------------------------------

// One random step on both the device and the model.
inline void random_step(BlockDevice& device, Bytes& model, std::mt19937_64& random) {
  const uint64_t step = device.traits().minimum_block_bytes;
  const uint64_t blocks = model.size() / step;
  const uint64_t first = random() % blocks;
  const uint64_t longest = std::min(blocks - first, random() % 8 == 0 ? blocks : 65536 / step + 1);
  const uint64_t offset = first * step;
  const uint64_t length = (1 + random() % longest) * step;
  const auto begin = model.begin() + static_cast<ptrdiff_t>(offset);
  const auto end = begin + static_cast<ptrdiff_t>(length);
  CAPTURE(offset);
  CAPTURE(length);
  Bytes seen(length);
  switch (random() % 6) {
    case 0:
    case 1: {
      const Bytes content = random_bytes(random, length);
      std::copy(content.begin(), content.end(), begin);
      REQUIRE(write_sync(device, offset, content, random() % 8 == 0 ? kIoFua : 0).is_ok());
      break;
    }
    case 2:
      REQUIRE(write_zeroes_sync(device, offset, length, random() % 2 ? kIoNoHole : 0).is_ok());
      std::fill(begin, end, std::byte{0});
      break;
    case 3:
      REQUIRE(trim_sync(device, offset, length).is_ok());
      // Where a trim leaves anything behind, the model takes what it left.
      if (!device.traits().trim_reads_zero) REQUIRE(read_sync(device, offset, seen).is_ok());
      std::copy(seen.begin(), seen.end(), begin);
      break;
    case 4:
      REQUIRE(flush_sync(device).is_ok());
      break;
    default:
      REQUIRE(read_sync(device, offset, seen).is_ok());
      REQUIRE(std::equal(begin, end, seen.begin()));
  }
}

inline void check_against_model(const MakeDevice& make) {
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    const auto device = make(kMiB);
    Bytes model(device->size_bytes());
    for (int i = 0; i < 300; ++i) random_step(*device, model, random);
    REQUIRE(read_all(*device) == model);
    uint64_t offset = 0;
    for (const DeviceExtent& extent : all_extents(*device, 3)) {
      if ((extent.flags & kExtentZero) != 0) {
        REQUIRE(is_zero(model.data() + offset, extent.length_bytes));
      }
      offset += extent.length_bytes;
    }
  }
}

}  // namespace tidemark::device_contract

namespace tidemark {

inline void run_device_contract(const char* name, const device_contract::MakeDevice& make) {
  using namespace device_contract;
  CAPTURE(std::string(name));
  SUBCASE("it has the size asked for, sane traits, and zeroes") { check_identity(make); }
  SUBCASE("it reads what was written, up to both ends") { check_bounds(make); }
  SUBCASE("it takes buffers at any address") { check_any_buffer_address(make); }
  SUBCASE("it completes each request once") { check_exactly_one_completion(make); }
  SUBCASE("a write leaves its source alone") { check_source_is_not_modified(make); }
  SUBCASE("write-zeroes zeroes its range and no more, or refuses") { check_write_zeroes(make); }
  SUBCASE("trim touches its range only, and keeps its promise of zeroes") { check_trim(make); }
  SUBCASE("extents cover the device, and zero is zero") { check_extents(make); }
  SUBCASE("extents are appended, and of known contexts") { check_extent_queries(make); }
  SUBCASE("it serves many requests of several threads") { check_many_in_flight(make); }
  SUBCASE("overlapping writes leave bytes of one of them") { check_overlapping_writes(make); }
  SUBCASE("a completion may submit again") { check_submit_from_completion(make); }
  SUBCASE("it may go once its last completion was seen") { check_destruction(make); }
  SUBCASE("it grows, keeps what it has, and never shrinks") { check_resize(make); }
  SUBCASE("it grows while it is written to") { check_resize_under_load(make); }
  SUBCASE("it behaves as a vector of bytes does") { check_against_model(make); }
}

}  // namespace tidemark
