// T7: four threads mark while a fifth flips under a gate. What was marked
// between two flips is in the cut that the second one makes, and in no other.
#include <array>
#include <atomic>
#include <mutex>
#include <random>
#include <thread>

#include "bitmap_support.h"

using namespace tidemark;

namespace {

constexpr uint64_t kBlock = 4096;
constexpr uint64_t kBlocks = 1500;  // three lines: threads meet in words and in summary bits
constexpr uint32_t kThreads = 4;
constexpr uint64_t kCuts = 200;

// Closed by holding every thread's mutex; a thread steps aside for that.
struct Gate {
  std::array<std::mutex, kThreads> passages;
  std::atomic<bool> is_closing{false};

  void close() {
    is_closing = true;
    for (auto& passage : passages) passage.lock();
  }
  void open() {
    is_closing = false;
    for (auto& passage : passages) passage.unlock();
  }
};

struct Marked {
  uint64_t cut;
  uint64_t block;
  bool operator<(const Marked& other) const {
    return std::pair{cut, block} < std::pair{other.cut, other.block};
  }
};

struct Scene {
  explicit Scene(DirtyBitmap& shared_bitmap) : bitmap(shared_bitmap) {}

  DirtyBitmap& bitmap;
  Gate gate;
  std::atomic<uint64_t> cut{0};  // changes under the closed gate only
  std::atomic<uint64_t> unseen_marks{0};
  std::atomic<uint64_t> mark_count{0};
};

// One passage of the gate: a few marks, each with the cut that must hold it.
void mark_some(Scene& scene, std::mt19937_64& random, uint64_t cut, std::vector<Marked>& journal) {
  for (int i = 0; i < 8; ++i) {
    const uint64_t block = random() % kBlocks;
    scene.bitmap.mark(block * kBlock, kBlock);
    // A mark that returned is seen by every reader, whoever set the bit.
    const auto seen = scene.bitmap.next_extent(MapId::live(), block * kBlock, kBlock);
    if (!seen || seen->offset_bytes != block * kBlock) ++scene.unseen_marks;
    journal.push_back({cut, block});
    ++scene.mark_count;
  }
}

void mark_until_last_cut(Scene& scene, uint32_t thread, std::vector<Marked>& journal) {
  std::mt19937_64 random(thread);
  while (scene.cut != kCuts) {
    const uint64_t start_cut = scene.cut;
    for (int passage_count = 0; passage_count < 20; ++passage_count) {
      while (scene.gate.is_closing) std::this_thread::yield();
      const std::lock_guard passage(scene.gate.passages[thread]);
      if (scene.cut == kCuts) return;
      mark_some(scene, random, scene.cut, journal);
    }
    while (scene.cut == start_cut) std::this_thread::yield();
  }
}

std::set<Marked> cut_repeatedly(Scene& scene, uint32_t slot) {
  std::set<Marked> captured;
  uint64_t count_at_cut = 0;
  for (uint64_t cut = 0; cut < kCuts; ++cut) {
    while (scene.mark_count == count_at_cut) std::this_thread::yield();
    scene.gate.close();
    scene.bitmap.flip();
    count_at_cut = scene.mark_count;
    ++scene.cut;
    scene.gate.open();
    require_ok(scene.bitmap.merge_closed());
    require_ok(scene.bitmap.take_pending(slot));
    for (const uint64_t block : blocks_of(scene.bitmap, MapId::in_flight(slot))) {
      captured.insert({cut, block});
    }
    require_ok(scene.bitmap.commit(slot));
  }
  return captured;
}

}  // namespace

TEST_CASE("T7: each mark is in the cut that follows it and in no other") {
  TempDirectory directory(memory_directory());
  auto bitmap = create_bitmap(directory.file("b"), kBlocks * kBlock);
  const uint32_t slot = add_target(*bitmap, kReplicaA);
  Scene scene(*bitmap);
  std::array<std::vector<Marked>, kThreads> journals;
  std::vector<std::thread> threads;
  for (uint32_t i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] { mark_until_last_cut(scene, i, journals[i]); });
  }
  const std::set<Marked> captured = cut_repeatedly(scene, slot);
  for (auto& thread : threads) thread.join();
  std::set<Marked> marked;
  for (const auto& journal : journals) marked.insert(journal.begin(), journal.end());
  CHECK(scene.unseen_marks == 0);
  CHECK_FALSE(marked.empty());
  CHECK(std::equal(marked.begin(), marked.end(), captured.begin(), captured.end(),
                   [](const Marked& a, const Marked& b) { return !(a < b) && !(b < a); }));
}

namespace {

constexpr uint32_t kRacers = 2;
constexpr uint64_t kChunks = 4000;

// Runs body(racer, chunk) on all racers at once, which start each chunk at the
// same moment: else one is through before the next one gets a processor.
template <typename Body>
void race(Body body) {
  std::atomic<uint64_t> arrivals{0};
  std::vector<std::thread> threads;
  for (uint32_t racer = 0; racer < kRacers; ++racer) {
    threads.emplace_back([&, racer] {
      for (uint64_t chunk = 0; chunk < kChunks; ++chunk) {
        ++arrivals;
        for (uint32_t spins = 0; arrivals < (chunk + 1) * kRacers; ++spins) {
          if (spins > 100'000) std::this_thread::yield();
        }
        body(racer, chunk);
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

}  // namespace

TEST_CASE("threads that mark neighbours in one word lose none of each other's marks") {
  TempDirectory directory(memory_directory());
  constexpr uint64_t kChunkBlocks = 512;
  constexpr uint64_t kBlockCount = kChunks * kChunkBlocks;
  auto bitmap = create_bitmap(directory.file("b"), kBlockCount * kBlock);
  race([&](uint32_t racer, uint64_t chunk) {
    for (uint64_t i = racer; i < kChunkBlocks; i += kRacers) {
      bitmap->mark((chunk * kChunkBlocks + i) * kBlock, kBlock);
    }
  });
  CHECK(bitmap->dirty_block_count(MapId::live()) == kBlockCount);
}

TEST_CASE("a mark that another thread made first is seen by a scan as soon as mark returns") {
  TempDirectory directory(memory_directory());
  constexpr uint64_t kLineBytes = 512 * kBlock;
  constexpr uint64_t kChunkLines = 16;
  std::atomic<uint64_t> unseen_marks{0};
  auto bitmap = create_bitmap(directory.file("b"), (kChunks * kChunkLines + 1) * kLineBytes);
  race([&](uint32_t, uint64_t chunk) {
    for (uint64_t line = chunk * kChunkLines + 1; line <= (chunk + 1) * kChunkLines; ++line) {
      const uint64_t offset = line * kLineBytes + kLineBytes / 2;
      bitmap->mark(offset, kBlock);
      // From the line before, so that the summary is what leads to the block.
      const auto seen = bitmap->next_extent(MapId::live(), line * kLineBytes - kBlock, kBlock);
      if (!seen || seen->offset_bytes != offset) ++unseen_marks;
    }
  });
  CHECK(unseen_marks == 0);
}
