// What becomes of a served recovery point's scratch when its process ends: what
// a restart finds, and what is refused.
#include <doctest/doctest.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>

#include "device/fault_device.h"
#include "device_contract.h"
#include "layered_scene.h"
#include "spawn_tool.h"

using namespace tidemark;

TEST_CASE("a scratch is for one base, one list of layers, one size, one user") {
  std::mt19937_64 random(11);
  Chain chain(random, 40 * 4096, 4096, 3);
  {
    const auto device = open_device(chain.parameters);
    CHECK(open_layered_device(chain.parameters).status().code() == ErrorCode::kInUse);
    random_change(*device, chain.disk, random);
    REQUIRE(flush_sync(*device).is_ok());
  }
  const auto code_with = [&](auto change) {
    LayeredDeviceParameters other = chain.parameters;
    change(other);
    return open_layered_device(other).status().code();
  };
  CHECK(code_with([](auto& p) { p.layers.pop_back(); }) == ErrorCode::kForeign);
  CHECK(code_with([](auto& p) { std::swap(p.layers[0], p.layers[1]); }) == ErrorCode::kForeign);
  CHECK(code_with([](auto& p) { p.base = make_memory_device(4096); }) == ErrorCode::kForeign);
  CHECK(code_with([](auto& p) { p.size_bytes -= 4096; }) == ErrorCode::kForeign);
  CHECK(code_with([](auto& p) { p.granularity_bytes = 512; }) == ErrorCode::kForeign);
  CHECK(code_with([](auto& p) { p.disk = uuid_of(9); }) == ErrorCode::kForeign);
  CHECK(code_with([](auto& p) {
          p.disk = uuid_of(9);
          p.layers.clear();
        }) == ErrorCode::kForeign);
  CHECK(code_with([](auto& p) { p.base = nullptr; }) == ErrorCode::kInvalidArgument);
  CHECK(code_with([](auto& p) { p.granularity_bytes = 1000; }) == ErrorCode::kInvalidArgument);
  CHECK(code_with([](auto& p) { p.size_bytes = 0; }) == ErrorCode::kInvalidArgument);
  check_content(*open_device(chain.parameters), chain.disk);
}

TEST_CASE("a scratch that lost one of its files, or a part of one, is not taken for a new one") {
  std::mt19937_64 random(12);
  Chain chain(random, 40 * 4096, 4096, 1);
  const std::string path = chain.parameters.scratch_path;
  const std::string index_path = path + ".index";
  {
    const auto device = open_device(chain.parameters);
    REQUIRE(write_sync(*device, 0, random_content(random, 8192)).is_ok());
    REQUIRE(flush_sync(*device).is_ok());
  }
  const LayerBytes data = read_file(path);
  const LayerBytes index = read_file(index_path);
  const auto code = [&] { return open_layered_device(chain.parameters).status().code(); };
  REQUIRE(::unlink(index_path.c_str()) == 0);
  CHECK(code() == ErrorCode::kCorrupt);
  write_file(index_path, index);
  REQUIRE(::truncate(path.c_str(), 20000) == 0);
  CHECK(code() == ErrorCode::kTruncated);
  REQUIRE(::unlink(path.c_str()) == 0);
  CHECK(code() == ErrorCode::kNotFound);
  write_file(path, data);
  for (size_t size = 0; size < index.size(); size += 512) {
    write_file(index_path, LayerBytes(index.begin(), index.begin() + static_cast<ptrdiff_t>(size)));
    CHECK(code() == ErrorCode::kTruncated);
  }
  LayerBytes newer = index;
  newer[8] = std::byte{2};
  write_file(index_path, newer);
  CHECK(code() == ErrorCode::kVersion);
  write_file(index_path, index);
  CHECK(code() == ErrorCode::kOk);
}

TEST_CASE("a scratch whose creation was cut short is made anew") {
  std::mt19937_64 random(13);
  Chain chain(random, 40 * 4096, 4096, 1);
  const std::string path = chain.parameters.scratch_path;
  REQUIRE(UniqueFd(::open(path.c_str(), O_RDWR | O_CREAT, 0600)).is_open());
  REQUIRE(::truncate(path.c_str(), 40 * 4096) == 0);
  write_file(path + ".index.new", LayerBytes(100, std::byte{1}));
  check_content(*open_device(chain.parameters), chain.disk);
}

TEST_CASE("a process killed at any step of a flush loses nothing that was flushed before") {
  for (const char* name :
       {"scratch.data_synced", "scratch.journal_written", "scratch.index_synced"}) {
    for (int passage = 1; passage <= 7; ++passage) {
      CAPTURE(name);
      CAPTURE(passage);
      ScratchDirectory directory;
      const bool ended = run_tool("layers_crash_tool", {"scratch", directory.path()},
                                  std::string(name) + ":" + std::to_string(passage));
      CHECK(ended == (passage == 7));
      uint64_t flushed = 0;
      std::ifstream(directory.path() + "/flushed") >> flushed;
      CHECK(flushed == static_cast<uint64_t>(passage - 1));
      LayeredDeviceParameters parameters;
      parameters.disk = kDisk;
      parameters.size_bytes = 256 * 4096;
      parameters.base = make_memory_device(256 * 4096);
      parameters.scratch_path = directory.path() + "/scratch";
      const auto device = open_device(parameters);
      LayerBytes content(256 * 4096);
      REQUIRE(read_sync(*device, 0, content).is_ok());
      for (uint64_t block = 0; block < 256; ++block) {
        const uint64_t round = block % 8;
        const auto byte = static_cast<uint64_t>(content[block * 4096]);
        const bool covered = round >= 1 && round <= flushed;
        // The round that was under way may have got through, or not.
        REQUIRE((byte == (covered ? round : 0) || (round == flushed + 1 && byte == round)));
      }
    }
  }
}

TEST_CASE("the committed scratch of format version 1 opens, and is what it was") {
  const std::string fixtures = fixture_directory();
  ScratchDirectory directory;
  LayeredDeviceParameters parameters;
  parameters.disk = uuid_of(0x11);
  parameters.size_bytes = 64 * 1024 - 100;
  parameters.base = make_memory_device(32 * 1024);
  parameters.layers = {open_layer(fixtures + "/layer-v1/sealed.layer", uuid_of(0x11))};
  parameters.scratch_path = directory.path() + "/disk.scratch";
  for (const char* name : {"/disk.scratch", "/disk.scratch.index"}) {
    write_file(directory.path() + name, read_file(fixtures + "/scratch-v1" + name));
  }
  LayerBytes expected(parameters.size_bytes);
  const auto fill = [&](uint64_t block, uint64_t factor) {
    for (size_t i = 0; i < 4096 && block * 4096 + i < expected.size(); ++i) {
      expected[block * 4096 + i] = static_cast<std::byte>(block * factor + i);
    }
  };
  for (const uint64_t block : {1, 2, 15}) fill(block, 31);
  for (const uint64_t block : {0, 3}) fill(block, 57);
  check_content(*open_device(parameters), expected);
}
