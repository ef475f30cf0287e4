// Does one thing with layers, so that a test can kill it on the way:
//   seal PATH      writes two segments and seals them
//   scratch DIR    writes through a LayeredDevice and flushes, again and again;
//                  after each flush it says so in DIR/flushed
//   fold DIR       folds the disk of DIR/base, DIR/layer and DIR/scratch into the base
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "common/failpoint.h"
#include "device/file_device.h"
#include "device/memory_device.h"
#include "device/sync_io.h"
#include "layers/fold.h"
#include "layers/layer.h"
#include "layers/open_layered_device.h"

using namespace tidemark;

namespace {

Uuid disk() {
  Uuid uuid;
  uuid.bytes.fill(1);
  return uuid;
}

void require(const Status& status) {
  if (status.is_ok()) return;
  std::fprintf(stderr, "%s\n", status.message().c_str());
  std::exit(1);
}

int seal(const std::string& path) {
  std::vector<std::vector<std::byte>> blobs;
  for (uint64_t segment = 0; segment < 2; ++segment) {
    auto writer = LayerSegmentWriter::open(path, 4096 + segment * 65536, 65536, 4096);
    require(writer.status());
    for (uint64_t i = 0; i < 6; ++i) {
      const std::vector<std::byte> block(4096, static_cast<std::byte>(segment * 16 + i + 1));
      require(writer.value()->append((segment * 100 + i * 2) * 4096, block));
    }
    require(writer.value()->zero((segment * 100 + 50) * 4096, 8192));
    auto blob = writer.value()->finish();
    require(blob.status());
    blobs.push_back(std::move(blob).value());
  }
  require(seal_layer(path, {disk(), disk(), 1, 1 << 20, 4096}, blobs).status());
  return 0;
}

// Round r writes byte r to blocks r, r + 8, r + 16, ..., so that a reader knows
// what each flush has covered.
int scratch(const std::string& directory) {
  LayeredDeviceParameters parameters;
  parameters.disk = disk();
  parameters.size_bytes = 256 * 4096;
  parameters.base = make_memory_device(256 * 4096);
  parameters.scratch_path = directory + "/scratch";
  auto device = open_layered_device(parameters);
  require(device.status());
  for (uint64_t round = 1; round <= 6; ++round) {
    const std::vector<std::byte> block(4096, static_cast<std::byte>(round));
    for (uint64_t i = round; i < 256; i += 8) {
      require(write_sync(*device.value(), i * 4096, block));
    }
    require(flush_sync(*device.value()));
    std::ofstream(directory + "/flushed") << round << std::endl;
  }
  return 0;
}

int fold(const std::string& directory) {
  auto base = open_file_device({.path = directory + "/base", .read_only = true});
  require(base.status());
  auto layer = Layer::open(directory + "/layer", disk());
  require(layer.status());
  LayeredDeviceParameters parameters;
  parameters.disk = disk();
  parameters.size_bytes = 64 * 4096;
  parameters.base = base.value();
  parameters.base_path = directory + "/base";
  parameters.layers = {layer.value()};
  parameters.scratch_path = directory + "/scratch";
  auto device = open_layered_device(parameters);
  require(device.status());
  auto fold = Fold::open(device.value(), parameters.base_path);
  require(fold.status());
  // What the guest writes meanwhile is what is there already.
  std::vector<std::byte> block(4096);
  for (uint64_t i = 0;; ++i) {
    const auto more = fold.value()->step(3 * 4096);
    require(more.status());
    if (!more.value()) break;
    require(read_sync(*device.value(), i * 4096, block));
    require(write_sync(*device.value(), i * 4096, block));
  }
  require(fold.value()->finish());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  arm_failpoints_from_environment();
  if (argc != 3) return 2;
  const std::string what = argv[1];
  if (what == "seal") return seal(argv[2]);
  if (what == "scratch") return scratch(argv[2]);
  if (what == "fold") return fold(argv[2]);
  return 2;
}
