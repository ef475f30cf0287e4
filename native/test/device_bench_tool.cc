// What FileDevice costs over the bare system call, on one thread at queue depth 1:
//   device_bench_tool SCRATCH_FILE [SECONDS [SIZE_MIB]]
// for SECONDS each way. One JSON line each. The file is created, filled (so that its pages are
// cached) and left behind.
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "common/fd.h"
#include "device/file_device.h"
#include "device/sync_io.h"

using namespace tidemark;

namespace {

constexpr uint64_t kBlockBytes = 4096;

alignas(4096) std::byte buffer[kBlockBytes];

// One way of doing one operation; its slices of time alternate with the others',
// so that what else the machine does hits all of them alike.
struct Way {
  const char* op;
  std::string name;
  std::function<bool(uint64_t offset_bytes)> step;
  uint64_t count = 0;
  double elapsed_seconds = 0;
};

void run_slice(Way& way, uint64_t block_count, double seconds) {
  using Clock = std::chrono::steady_clock;
  std::minstd_rand random(1);
  const Clock::time_point start = Clock::now();
  double elapsed = 0;
  while (elapsed < seconds) {
    for (int i = 0; i < 64; ++i, ++way.count) {
      if (way.step(random() % block_count * kBlockBytes)) continue;
      std::fprintf(stderr, "%s by %s failed\n", way.op, way.name.c_str());
      std::exit(1);
    }
    elapsed = std::chrono::duration<double>(Clock::now() - start).count();
  }
  way.elapsed_seconds += elapsed;
}

void report(const Way& way) {
  std::printf(
      "{\"op\":\"%s\",\"way\":\"%s\",\"block_bytes\":%llu,\"count\":%llu,"
      "\"iops\":%.0f,\"ns_per_op\":%.0f}\n",
      way.op, way.name.c_str(), static_cast<unsigned long long>(kBlockBytes),
      static_cast<unsigned long long>(way.count),
      static_cast<double>(way.count) / way.elapsed_seconds,
      way.elapsed_seconds * 1e9 / static_cast<double>(way.count));
}

struct Completion {
  // Not a semaphore: its release is a system call even when nobody waits.
  std::atomic<bool> completed{false};
  int error = 0;
};

bool submit(BlockDevice& device, IoOp op, uint64_t offset, std::byte* data) {
  Completion completion;
  IoRequest request;
  request.op = op;
  request.offset_bytes = offset;
  request.length_bytes = kBlockBytes;
  request.data = data;
  request.push(
      [](IoRequest&, void* context, uint64_t, int error) noexcept {
        auto* waited = static_cast<Completion*>(context);
        waited->error = error;
        waited->completed.store(true, std::memory_order_release);
        waited->completed.notify_one();
      },
      &completion);
  device.submit(request);
  completion.completed.wait(false, std::memory_order_acquire);
  return completion.error == 0;
}

void add_raw(std::vector<Way>& ways, int fd) {
  const auto size = static_cast<ssize_t>(kBlockBytes);
  ways.push_back({"read", "pread", [=](uint64_t offset) {
                    return ::pread(fd, buffer, kBlockBytes, static_cast<off_t>(offset)) == size;
                  }});
  ways.push_back({"write", "pwrite", [=](uint64_t offset) {
                    return ::pwrite(fd, buffer, kBlockBytes, static_cast<off_t>(offset)) == size;
                  }});
}

void add_device(std::vector<Way>& ways, const std::string& path, bool direct, IoEngineKind engine) {
  FileDeviceParameters parameters;
  parameters.path = path;
  parameters.direct = direct;
  parameters.engine = engine;
  const auto opened = open_file_device(parameters);
  if (!opened.is_ok()) {
    std::fprintf(stderr, "%s\n", opened.status().message().c_str());
    return;
  }
  const auto device = opened.value();
  const std::string name = "device " + device->traits().engine + (direct ? " direct" : "");
  for (const auto& [op, op_name] : {std::pair(IoOp::kRead, "read"), {IoOp::kWrite, "write"}}) {
    ways.push_back({op_name, name,
                    [=, op = op](uint64_t offset) { return submit(*device, op, offset, buffer); }});
  }
}

bool fill(int fd, uint64_t size_mib) {
  const std::vector<std::byte> filler(1024 * 1024, std::byte{1});
  for (uint64_t i = 0; i < size_mib; ++i) {
    const auto offset = static_cast<off_t>(i * filler.size());
    if (::pwrite(fd, filler.data(), filler.size(), offset) < 0) return false;
  }
  return ::fsync(fd) == 0;
}

void run(std::vector<Way>& ways, double seconds, uint64_t size_mib) {
  constexpr int kSlices = 20;
  for (int slice = 0; slice < kSlices; ++slice) {
    for (Way& way : ways) {
      run_slice(way, size_mib * 1024 * 1024 / kBlockBytes, seconds / kSlices);
    }
  }
  for (const Way& way : ways) report(way);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s SCRATCH_FILE [SECONDS [SIZE_MIB]]\n", argv[0]);
    return 2;
  }
  const double seconds = argc > 2 ? std::atof(argv[2]) : 2;
  const uint64_t size_mib = argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 256;
  const UniqueFd fd(::open(argv[1], O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!fd.is_open() || !fill(fd.get(), size_mib)) {
    std::perror(argv[1]);
    return 1;
  }
  std::vector<Way> buffered;
  add_raw(buffered, fd.get());
  add_device(buffered, argv[1], false, IoEngineKind::kIoUring);
  add_device(buffered, argv[1], false, IoEngineKind::kThreads);
  run(buffered, seconds, size_mib);
  ::fsync(fd.get());
  std::vector<Way> direct;
  add_device(direct, argv[1], true, IoEngineKind::kIoUring);
  add_device(direct, argv[1], true, IoEngineKind::kThreads);
  run(direct, seconds, size_mib);
}
