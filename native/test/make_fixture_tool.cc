// Writes the fixtures of the layer and the scratch format, as this build makes
// them: make_fixture_tool DIRECTORY. What is committed stays as it is for good:
// a new format version gets a directory of its own.
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "device/memory_device.h"
#include "device/sync_io.h"
#include "layers/layer.h"
#include "layers/open_layered_device.h"

using namespace tidemark;

namespace {

constexpr uint64_t kDiskBytes = 64 * 1024 - 100;

Uuid uuid_of(uint8_t number) {
  Uuid uuid;
  uuid.bytes.fill(number);
  return uuid;
}

void require(const Status& status) {
  if (status.is_ok()) return;
  std::fprintf(stderr, "%s\n", status.message().c_str());
  std::exit(1);
}

std::vector<std::byte> block_of(uint64_t block, uint64_t factor) {
  std::vector<std::byte> bytes(std::min<uint64_t>(4096, kDiskBytes - block * 4096));
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(block * factor + i);
  return bytes;
}

void make_layer(const std::string& directory) {
  const std::string path = directory + "/sealed.layer";
  std::vector<std::vector<std::byte>> blobs;
  const std::vector<std::vector<uint64_t>> blocks{{1, 2, 15}, {8}};
  for (uint64_t segment = 0; segment < 2; ++segment) {
    auto writer = LayerSegmentWriter::open(path, 4096 + segment * 12288, 12288, 4096);
    require(writer.status());
    for (const uint64_t block : blocks[segment]) {
      require(writer.value()->append(block * 4096, block_of(block, 31)));
    }
    if (segment == 1) require(writer.value()->zero(4 * 4096, 4096));
    auto blob = writer.value()->finish();
    require(blob.status());
    blobs.push_back(std::move(blob).value());
    std::ofstream file(directory + "/segment-" + std::to_string(segment) + ".index",
                       std::ios::binary);
    file.write(reinterpret_cast<const char*>(blobs.back().data()),
               static_cast<std::streamsize>(blobs.back().size()));
  }
  require(seal_layer(path, {uuid_of(0x11), uuid_of(0x22), 42, kDiskBytes, 4096}, blobs).status());
}

// On that layer, over an empty base of 32 KiB: blocks 0 and 3 written, 8 trimmed.
void make_scratch(const std::string& directory, const std::string& layer_path) {
  auto layer = Layer::open(layer_path, uuid_of(0x11));
  require(layer.status());
  LayeredDeviceParameters parameters;
  parameters.disk = uuid_of(0x11);
  parameters.size_bytes = kDiskBytes;
  parameters.base = make_memory_device(32 * 1024);
  parameters.layers = {layer.value()};
  parameters.scratch_path = directory + "/disk.scratch";
  auto device = open_layered_device(parameters);
  require(device.status());
  require(write_sync(*device.value(), 0, block_of(0, 57)));
  require(flush_sync(*device.value()));
  require(write_sync(*device.value(), 3 * 4096, block_of(3, 57)));
  require(trim_sync(*device.value(), 8 * 4096, 4096));
  require(flush_sync(*device.value()));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: make_fixture_tool DIRECTORY\n");
    return 2;
  }
  const std::string root = argv[1];
  for (const char* name : {"/layer-v1", "/scratch-v1"}) {
    std::filesystem::create_directories(root + name);
  }
  make_layer(root + "/layer-v1");
  make_scratch(root + "/scratch-v1", root + "/layer-v1/sealed.layer");
  return 0;
}
