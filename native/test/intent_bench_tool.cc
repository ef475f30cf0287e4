// What the intent log costs, as JSON lines on stdout: power-safe and process-safe in
// turns, on a sparse file and a bitmap in the directory.
//   intent_bench_tool DIRECTORY [ROUNDS [WRITES]]
// First touch: one write to each region of a disk that went quiet. Steady: random
// writes to regions that are marked. From quiet: random writes over all of the disk, the
// first touches among them. Sync-heavy: as steady, with a flush after each.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <random>
#include <semaphore>
#include <string>
#include <vector>

#include "common/fd.h"
#include "device/file_device.h"
#include "tracking/tracked_device.h"

using namespace tidemark;

namespace {

using Clock = std::chrono::steady_clock;

constexpr uint64_t kBlock = 4096;
constexpr uint64_t kRegion = 64ULL << 20;
constexpr uint64_t kRegionCount = 256;
constexpr uint64_t kDiskBytes = kRegion * kRegionCount;
constexpr uint64_t kHotBytes = 4 * kRegion;  // steady and sync-heavy stay inside

// Keeps `depth` requests in flight until the offsets are used up.
class Load {
 public:
  Load(BlockDevice& device, const std::vector<uint64_t>& offsets, uint32_t depth, bool flushes)
      : device_(device), offsets_(offsets), flushes_(flushes), lanes_(depth) {
    for (Lane& lane : lanes_) {
      lane.load = this;
      lane.buffer.resize(kBlock, std::byte{7});
    }
  }

  double run(std::vector<double>& latencies_us) {
    const auto begin = Clock::now();
    for (Lane& lane : lanes_) next(lane);
    for (size_t i = 0; i < lanes_.size(); ++i) ended_.acquire();
    const std::chrono::duration<double> seconds = Clock::now() - begin;
    for (Lane& lane : lanes_) {
      latencies_us.insert(latencies_us.end(), lane.latencies_us.begin(), lane.latencies_us.end());
    }
    return static_cast<double>(offsets_.size()) / seconds.count();
  }

 private:
  struct Lane {
    Load* load = nullptr;
    std::vector<std::byte> buffer;
    IoRequest request;
    Clock::time_point begin;
    std::atomic<int> halves{0};
    std::vector<double> latencies_us;
  };

  // Of submitting and completing, whatever comes second goes on with the next write: a
  // write that completes inside of submit() must not recurse.
  void next(Lane& lane) noexcept {
    do {
      const size_t index = next_.fetch_add(1);
      if (index >= offsets_.size()) return ended_.release();
      lane.halves = 0;
      lane.begin = Clock::now();
      lane.request = IoRequest();
      lane.request.op = IoOp::kWrite;
      lane.request.offset_bytes = offsets_[index];
      lane.request.length_bytes = kBlock;
      lane.request.data = lane.buffer.data();
      lane.request.push(on_written, &lane);
      device_.submit(lane.request);
    } while (lane.halves.fetch_add(1) == 1);
  }
  void done(Lane& lane, int error) noexcept {
    if (error != 0) std::abort();
    const std::chrono::duration<double, std::micro> spent = Clock::now() - lane.begin;
    lane.latencies_us.push_back(spent.count());
    if (lane.halves.fetch_add(1) == 1) next(lane);
  }
  static void on_written(IoRequest& request, void* context, uint64_t /*word*/, int error) noexcept {
    auto& lane = *static_cast<Lane*>(context);
    if (!lane.load->flushes_ || error != 0) return lane.load->done(lane, error);
    request = IoRequest();
    request.op = IoOp::kFlush;
    request.push(on_flushed, &lane);
    lane.load->device_.submit(request);
  }
  static void on_flushed(IoRequest& /*request*/, void* context, uint64_t /*word*/,
                         int error) noexcept {
    auto& lane = *static_cast<Lane*>(context);
    lane.load->done(lane, error);
  }

  BlockDevice& device_;
  const std::vector<uint64_t>& offsets_;
  const bool flushes_;
  std::atomic<size_t> next_{0};
  std::counting_semaphore<> ended_{0};
  std::vector<Lane> lanes_;
};

struct Case {
  const char* name;
  uint32_t depth;
  bool flushes;
  std::vector<uint64_t> offsets;
  uint64_t prepared_bytes;  // of the disk, marked before the clock starts
};

std::vector<Case> make_cases(size_t write_count) {
  std::mt19937_64 random(1);
  std::vector<Case> cases;
  for (const uint32_t depth : {1, 32, 64}) {
    std::vector<uint64_t> touches;
    for (uint64_t region = 0; region < kRegionCount; ++region) touches.push_back(region * kRegion);
    std::shuffle(touches.begin(), touches.end(), random);
    cases.push_back({"first_touch", depth, false, touches, 0});
    std::vector<uint64_t> hot;
    for (size_t i = 0; i < write_count; ++i)
      hot.push_back(random() % (kHotBytes / kBlock) * kBlock);
    cases.push_back({"steady", depth, false, hot, kHotBytes});
    std::vector<uint64_t> wide;
    for (size_t i = 0; i < write_count; ++i) {
      wide.push_back(random() % (kDiskBytes / kBlock) * kBlock);
    }
    cases.push_back({"from_quiet", depth, false, wide, 0});
    hot.resize(std::min<size_t>(hot.size(), 100 * depth));
    cases.push_back({"sync_heavy", depth, true, hot, kHotBytes});
  }
  return cases;
}

template <typename T>
T taken(Result<T> result) {
  if (result.is_ok()) return std::move(result).value();
  std::fprintf(stderr, "%s\n", result.status().message().c_str());
  std::exit(1);
}

std::shared_ptr<BlockDevice> open_disk(const std::string& path) {
  FileDeviceParameters parameters;
  parameters.path = path;
  return taken(open_file_device(parameters));
}

// Everything quiet: opened and closed once before.
void measure(const Case& load, const std::string& directory, Durability durability) {
  const std::string bitmap_path = directory + "/bitmap";
  const Uuid disk = Uuid::random();
  const auto backing = open_disk(directory + "/disk");
  // Both modes meet the same blocks allocated, in the page cache, and clean.
  std::vector<double> ignored;
  Load(*backing, load.offsets, 1, false).run(ignored);
  Load(*backing, {load.offsets.front()}, 1, true).run(ignored);
  {
    std::shared_ptr<DirtyBitmap> bitmap =
        taken(DirtyBitmap::create(bitmap_path, {disk, kDiskBytes, 0, durability}));
    TrackedDevice device(backing, bitmap);
    if (!device.settle().is_ok() || !bitmap->close().is_ok()) std::exit(1);
  }
  {
    std::shared_ptr<DirtyBitmap> bitmap =
        taken(DirtyBitmap::open(bitmap_path, disk, kDiskBytes, file_bitmap_storage(), durability));
    TrackedDevice device(backing, bitmap);
    std::vector<uint64_t> prepared;
    std::vector<double> latencies_us;
    for (uint64_t at = 0; at < load.prepared_bytes; at += kRegion) prepared.push_back(at);
    Load(device, prepared, 1, true).run(latencies_us);
    const uint64_t syncs_before = device.intent_status().commit_count;
    latencies_us.clear();
    const double per_second =
        Load(device, load.offsets, load.depth, load.flushes).run(latencies_us);
    std::sort(latencies_us.begin(), latencies_us.end());
    std::printf(
        "{\"bench\":\"intent_%s\",\"depth\":%u,\"durability\":\"%s\",\"iops\":%.0f,"
        "\"p50_us\":%.1f,\"p99_us\":%.1f,\"syncs\":%llu}\n",
        load.name, load.depth, durability == Durability::kPowerSafe ? "power-safe" : "process-safe",
        per_second, latencies_us[latencies_us.size() / 2],
        latencies_us[latencies_us.size() * 99 / 100],
        static_cast<unsigned long long>(device.intent_status().commit_count - syncs_before));
    std::fflush(stdout);
    if (!device.settle().is_ok() || !bitmap->close().is_ok()) std::exit(1);
  }
  std::filesystem::remove(bitmap_path);
}

}  // namespace

int main(int argument_count, char** arguments) {
  if (argument_count < 2) return 2;
  const int rounds = argument_count > 2 ? std::atoi(arguments[2]) : 3;
  const size_t write_count = argument_count > 3 ? std::strtoul(arguments[3], nullptr, 10) : 100'000;
  std::string directory = std::string(arguments[1]) + "/intent-XXXXXX";
  if (::mkdtemp(directory.data()) == nullptr) return 1;
  const UniqueFd fd(::open((directory + "/disk").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
  if (!fd.is_open() || ::ftruncate(fd.get(), static_cast<off_t>(kDiskBytes)) != 0) return 1;
  for (const Case& load : make_cases(write_count)) {
    for (int round = 0; round < rounds; ++round) {
      for (const Durability durability : {Durability::kPowerSafe, Durability::kProcessSafe}) {
        measure(load, directory, durability);
      }
    }
  }
  std::filesystem::remove_all(directory);
  return 0;
}
