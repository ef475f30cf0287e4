// What a mark and a scan cost, as JSON lines on stdout. CPU time of the
// marking thread, so that a busy machine does not count; the scan in wall time.
//   bitmap_bench_tool [DIRECTORY]   where its scratch bitmap goes; else TMPDIR
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "bitmap/dirty_bitmap.h"

using namespace tidemark;

namespace {

constexpr uint64_t kBlock = 4096;
constexpr size_t kOffsets = 1 << 16;
constexpr uint64_t kRounds = 64;
constexpr int kTrials = 5;

uint64_t now_ns(clockid_t clock) {
  timespec now{};
  ::clock_gettime(clock, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

double mark_ns(DirtyBitmap& bitmap, const std::vector<uint64_t>& offsets) {
  const uint64_t start = now_ns(CLOCK_THREAD_CPUTIME_ID);
  for (uint64_t round = 0; round < kRounds; ++round) {
    for (const uint64_t offset : offsets) bitmap.mark(offset, kBlock);
  }
  const uint64_t spent_ns = now_ns(CLOCK_THREAD_CPUTIME_ID) - start;
  return static_cast<double>(spent_ns) / static_cast<double>(kRounds * offsets.size());
}

// The median over trials of the slowest thread.
double mark_ns_on(uint32_t thread_count, DirtyBitmap& bitmap,
                  const std::vector<uint64_t>& offsets) {
  std::vector<double> trials;
  for (int trial = 0; trial < kTrials; ++trial) {
    std::vector<double> costs(thread_count);
    std::vector<std::thread> threads;
    for (uint32_t i = 0; i < thread_count; ++i) {
      threads.emplace_back([&, i] { costs[i] = mark_ns(bitmap, offsets); });
    }
    for (auto& thread : threads) thread.join();
    trials.push_back(*std::max_element(costs.begin(), costs.end()));
  }
  std::sort(trials.begin(), trials.end());
  return trials[kTrials / 2];
}

void bench_marks(const char* pattern, DirtyBitmap& bitmap, const std::vector<uint64_t>& offsets) {
  for (const uint64_t offset : offsets) bitmap.mark(offset, kBlock);
  for (const uint32_t thread_count : {1U, 2U}) {
    std::printf(
        "{\"bench\":\"bitmap_mark_dirty\",\"pattern\":\"%s\",\"threads\":%u,"
        "\"ns_per_mark\":%.2f}\n",
        pattern, thread_count, mark_ns_on(thread_count, bitmap, offsets));
  }
}

void report_scan(const char* content, const DirtyBitmap& bitmap) {
  uint64_t best_ns = UINT64_MAX;
  uint64_t extent_count = 0;
  for (int trial = 0; trial < kTrials; ++trial) {
    extent_count = 0;
    uint64_t from = 0;
    const uint64_t start = now_ns(CLOCK_MONOTONIC);
    while (const auto extent = bitmap.next_extent(MapId::live(), from, UINT64_MAX)) {
      from = extent->offset_bytes + extent->length_bytes;
      ++extent_count;
    }
    best_ns = std::min(best_ns, now_ns(CLOCK_MONOTONIC) - start);
  }
  std::printf(
      "{\"bench\":\"bitmap_scan_1PiB\",\"content\":\"%s\",\"extents\":%llu,"
      "\"microseconds\":%.1f}\n",
      content, static_cast<unsigned long long>(extent_count), static_cast<double>(best_ns) / 1000);
}

std::unique_ptr<DirtyBitmap> make(const std::string& path, uint64_t disk_size_bytes) {
  auto made = DirtyBitmap::create(path, {Uuid::random(), disk_size_bytes, 0});
  if (made.is_ok()) return std::move(made).value();
  std::fprintf(stderr, "%s\n", made.status().message().c_str());
  return nullptr;
}

std::vector<uint64_t> random_offsets(const DirtyBitmap& bitmap) {
  std::mt19937_64 random(1);
  std::vector<uint64_t> offsets(kOffsets);
  for (auto& offset : offsets) offset = random() % bitmap.block_count() * kBlock;
  return offsets;
}

bool run(const std::string& directory) {
  const auto common = make(directory + "/common", 100ULL << 30);
  const auto largest = make(directory + "/largest", 1ULL << 40);
  const auto scans = make(directory + "/scans", 1ULL << 50);
  if (!common || !largest || !scans) return false;
  bench_marks("one_word", *common, std::vector<uint64_t>(kOffsets, 7 * kBlock));
  bench_marks("random_blocks_of_100GiB", *common, random_offsets(*common));
  bench_marks("random_blocks_of_1TiB", *largest, random_offsets(*largest));
  report_scan("empty", *scans);
  scans->mark(scans->disk_size_bytes() - 1, 1);
  report_scan("one_bit", *scans);
  for (uint64_t block = 0; block < scans->block_count(); block += 4096) {
    scans->mark(block * scans->granularity_bytes(), 1);
  }
  report_scan("one_in_4096", *scans);
  scans->mark(0, scans->disk_size_bytes());
  report_scan("full", *scans);
  return true;
}

}  // namespace

int main(int argument_count, char** arguments) {
  const std::filesystem::path parent =
      argument_count > 1 ? arguments[1] : std::filesystem::temp_directory_path().string();
  std::string directory = parent / "bitmap-bench-XXXXXX";
  if (::mkdtemp(directory.data()) == nullptr) {
    std::perror("Cannot make a scratch directory");
    return 1;
  }
  const bool ok = run(directory);
  std::filesystem::remove_all(directory);
  return ok ? 0 : 1;
}
