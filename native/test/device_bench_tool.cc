// What FileDevice costs over the bare system call, on one thread at queue depth 1:
//   device_bench_tool SCRATCH_FILE [SECONDS [SIZE_MIB]]
// One JSON line each. The file is created, filled (so that its pages are cached)
// and left behind.
#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <semaphore>
#include <vector>

#include "common/fd.h"
#include "device/file_device.h"
#include "device/sync_io.h"

using namespace tidemark;

namespace {

constexpr uint64_t kBlockBytes = 4096;

struct Bench {
  double seconds;
  uint64_t block_count;
  alignas(4096) std::byte buffer[kBlockBytes]{};

  // Calls step(offset) at random offsets for the time asked for.
  void run(const char* op, const char* way, const std::function<bool(uint64_t)>& step) const {
    using Clock = std::chrono::steady_clock;
    std::minstd_rand random(1);
    const Clock::time_point start = Clock::now();
    uint64_t count = 0;
    double elapsed = 0;
    while (elapsed < seconds) {
      for (int i = 0; i < 256; ++i, ++count) {
        if (!step(random() % block_count * kBlockBytes)) {
          std::fprintf(stderr, "%s by %s failed\n", op, way);
          std::exit(1);
        }
      }
      elapsed = std::chrono::duration<double>(Clock::now() - start).count();
    }
    std::printf("{\"op\":\"%s\",\"way\":\"%s\",\"block_bytes\":%llu,\"count\":%llu,"
                "\"iops\":%.0f,\"ns_per_op\":%.0f}\n",
                op, way, static_cast<unsigned long long>(kBlockBytes),
                static_cast<unsigned long long>(count), static_cast<double>(count) / elapsed,
                elapsed * 1e9 / static_cast<double>(count));
    std::fflush(stdout);
  }
};

struct Completion {
  std::binary_semaphore completed{0};
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
        waited->completed.release();
      },
      &completion);
  device.submit(request);
  completion.completed.acquire();
  return completion.error == 0;
}

void bench_raw(Bench& bench, int fd) {
  const auto size = static_cast<ssize_t>(kBlockBytes);
  bench.run("read", "pread", [&](uint64_t offset) {
    return ::pread(fd, bench.buffer, kBlockBytes, static_cast<off_t>(offset)) == size;
  });
  bench.run("write", "pwrite", [&](uint64_t offset) {
    return ::pwrite(fd, bench.buffer, kBlockBytes, static_cast<off_t>(offset)) == size;
  });
}

void bench_device(Bench& bench, const std::string& path, bool direct, IoEngineKind engine) {
  FileDeviceParameters parameters;
  parameters.path = path;
  parameters.direct = direct;
  parameters.engine = engine;
  const auto opened = open_file_device(parameters);
  if (!opened.is_ok()) {
    std::fprintf(stderr, "%s\n", opened.status().message().c_str());
    return;
  }
  BlockDevice& device = *opened.value();
  const std::string way = "device " + device.traits().engine + (direct ? " direct" : "");
  for (const auto& [op, name] : {std::pair(IoOp::kRead, "read"), {IoOp::kWrite, "write"}}) {
    bench.run(name, way.c_str(), [&, op = op](uint64_t offset) {
      return submit(device, op, offset, bench.buffer);
    });
  }
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
  const std::vector<std::byte> filler(1024 * 1024, std::byte{1});
  for (uint64_t i = 0; i < size_mib; ++i) {
    const auto offset = static_cast<off_t>(i * filler.size());
    if (::pwrite(fd.get(), filler.data(), filler.size(), offset) < 0) {
      std::perror(argv[1]);
      return 1;
    }
  }
  Bench bench{seconds, size_mib * 1024 * 1024 / kBlockBytes, {}};
  bench_raw(bench, fd.get());
  bench_device(bench, argv[1], false, IoEngineKind::kIoUring);
  bench_device(bench, argv[1], false, IoEngineKind::kThreads);
  ::fsync(fd.get());
  bench_device(bench, argv[1], true, IoEngineKind::kIoUring);
  bench_device(bench, argv[1], true, IoEngineKind::kThreads);
}
