// Loads whose every write says what it is, and the oracles for them. The oracle
// of a cut never looks at bitmaps or captures: it replays the writers' journals.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "common/crc32c.h"
#include "tracking_support.h"

namespace tidemark::tracking_test {

// The content of one block: which, and the number of the write that made it.
// Number 0 stands for a block of zeroes.
struct BlockContent {
  uint64_t disk, block, writer, number;

  void store(std::byte* into) const {
    std::mt19937_64 filler(number * 1000003 + block * 7 + disk);
    std::array<uint64_t, kBlock / 8> words;
    for (uint64_t& word : words) word = filler();
    words[0] = disk;
    words[1] = block;
    words[2] = writer;
    words[3] = number;
    words.back() = crc32c(words.data(), kBlock - 8);
    std::memcpy(into, words.data(), kBlock);
  }

  // The number, or nothing when the block is not whole, or of another place.
  static std::optional<uint64_t> number_in(const std::byte* from, uint64_t disk, uint64_t block,
                                           uint64_t writer) {
    std::array<uint64_t, kBlock / 8> words;
    std::memcpy(words.data(), from, kBlock);
    if (std::all_of(words.begin(), words.end(), [](uint64_t word) { return word == 0; })) return 0;
    const bool is_here = words[0] == disk && words[1] == block && words[2] == writer;
    if (!is_here || words.back() != crc32c(words.data(), kBlock - 8)) return std::nullopt;
    return words[3];
  }
};

// Pairs of dependent writes: number n to disk 0, acknowledged, then n to disk 1.
// Every write is slow, so that nearly every cut finds some in flight.
class DependentWrites {
 public:
  DependentWrites() {
    const Uuid target = Uuid::random();
    for (uint64_t i = 0; i < 2; ++i) {
      disks_.push_back(make_disk(scratch_, std::make_shared<ReorderingDevice>(
                                               make_memory_device(kPairs * kBlock), 11 + i, 1)));
      members_.push_back({disks_[i].device, add_target(*disks_[i].device, target), {}});
    }
  }

  int checkpoints = 0;
  int with_writes_in_flight = 0;
  int violations = 0;

  // At least `count` checkpoints, and so many with writes in flight.
  void run(int count, int busy_count) {
    std::vector<std::thread> writers;
    for (uint64_t pair = 0; pair < kPairs; ++pair) {
      writers.emplace_back([this, pair] { write(pair); });
    }
    wait_until([this] { return writes_.load() > 10; });
    std::array<std::array<uint64_t, kPairs>, 2> replica{};
    const auto is_enough = [&] {
      return checkpoints >= count && with_writes_in_flight >= busy_count;
    };
    while (!is_enough() && checkpoints < 20 * count && violations == 0) take_one(replica);
    is_ending_.store(true);
    for (std::thread& writer : writers) writer.join();
  }

 private:
  static constexpr uint64_t kPairs = 3;
  using Numbers = std::array<std::array<uint64_t, kPairs>, 2>;

  void write(uint64_t pair) {
    Bytes content(kBlock);
    for (uint64_t number = 1; !is_ending_.load(); ++number) {
      for (uint64_t disk = 0; disk < 2; ++disk) {
        BlockContent{disk, pair, pair, number}.store(content.data());
        if (!write_sync(*disks_[disk].device, pair * kBlock, content).is_ok()) return;
        writes_.fetch_add(1);
      }
    }
  }

  void take_one(Numbers& replica) {
    CheckpointOptions options;
    options.drain_limit = std::chrono::seconds(30);
    auto outcome = take_checkpoint(members_, options);
    REQUIRE_MESSAGE(outcome.is_ok(), outcome.status().message());
    ++checkpoints;
    with_writes_in_flight += outcome.value().requests_in_flight > 0;
    // The second disk last: whatever the reader is late for, copies must cover.
    for (uint64_t disk = 0; disk < 2; ++disk) {
      Capture& capture = *outcome.value().captures[disk];
      for (uint64_t pair = 0; pair < kPairs; ++pair) {
        if (!capture.next_extent(pair * kBlock, 1) ||
            capture.next_extent(pair * kBlock, 1)->offset_bytes != pair * kBlock) {
          continue;
        }
        const Bytes content = read_capture(capture, pair * kBlock, kBlock);
        const auto number = BlockContent::number_in(content.data(), disk, pair, pair);
        violations += !number.has_value();
        replica[disk][pair] = number.value_or(0);
      }
      capture.close();
      REQUIRE(disks_[disk].device->commit(members_[disk].slot).is_ok());
    }
    for (uint64_t pair = 0; pair < kPairs; ++pair) {
      const uint64_t lead = replica[0][pair] - replica[1][pair];
      violations += lead > 1;
    }
  }

  ScratchDirectory scratch_;
  std::vector<Disk> disks_;
  std::vector<CheckpointMember> members_;
  std::atomic<bool> is_ending_{false};
  std::atomic<uint64_t> writes_{0};
};

// Several writers over two disks, two targets that cut and read on threads of
// their own, and a replica of both disks for each target.
//
// A writer has one request at a time in flight and owns its blocks, so that its
// history is a sequence and a cut is a prefix of it: the one number n, between
// what had completed before the checkpoint was asked for and what was issued when
// it had returned, for which replaying the journal up to n gives exactly the
// replica's blocks, on all disks. Another writer keeps many requests in flight,
// one a block; each of its blocks must lie within its own such window.
class ConsistencyLoad {
 public:
  struct Parameters {
    uint64_t seed;
    bool is_reordered;
    int cycles;
  };

  explicit ConsistencyLoad(const Parameters& parameters) : parameters_(parameters) {
    for (uint64_t i = 0; i < kDisks; ++i) {
      auto memory = make_memory_device(kDiskBlocks * kBlock);
      std::shared_ptr<BlockDevice> backing = memory;
      if (parameters.is_reordered) {
        backing = std::make_shared<ReorderingDevice>(memory, parameters.seed + i);
      }
      disks_.push_back(make_disk(scratch_, backing));
    }
    for (uint64_t t = 0; t < kTargets; ++t) {
      const Uuid id = Uuid::random();
      for (Disk& disk : disks_) slots_[t].push_back(add_target(*disk.device, id));
      replicas_[t].assign(kDisks, Bytes(kDiskBlocks * kBlock));
    }
  }

  void run() {
    std::vector<std::thread> writers;
    for (uint64_t w = 0; w < kSequential; ++w) writers.emplace_back([this, w] { write(w); });
    writers.emplace_back([this] { write_many(); });
    std::vector<std::thread> cutters;
    for (uint64_t t = 0; t < kTargets; ++t) cutters.emplace_back([this, t] { cut(t); });
    for (std::thread& cutter : cutters) cutter.join();
    is_ending_.store(true);
    for (std::thread& writer : writers) writer.join();
    std::mt19937_64 random(parameters_.seed);
    for (uint64_t t = 0; t < kTargets; ++t) {
      while (!cycle(t, random, false)) continue;
    }
  }

  // After run(): the last cut of each target was of the disks at rest.
  bool replicas_equal_disks() {
    for (uint64_t t = 0; t < kTargets; ++t) {
      for (uint64_t d = 0; d < kDisks; ++d) {
        if (replicas_[t][d] != content_of(*disks_[d].backing)) return false;
      }
    }
    return true;
  }
  std::vector<std::string> faults() {
    const std::lock_guard lock(mutex_);
    return faults_;
  }
  uint64_t saved_bytes() const { return saved_bytes_.load(); }

 private:
  static constexpr uint64_t kDisks = 2;
  static constexpr uint64_t kTargets = 2;
  static constexpr uint64_t kDiskBlocks = 160;
  static constexpr uint64_t kSequential = 2;  // writers; each owns 48 blocks of each disk
  static constexpr uint64_t kOwned = 48;
  static constexpr uint64_t kManyFirst = kSequential * kOwned;  // the rest is write_many()'s
  static constexpr uint64_t kManyBlocks = kDiskBlocks - kManyFirst;

  struct Entry {
    uint64_t disk, first, count;
    bool is_zero;
  };
  struct Journal {
    std::vector<Entry> entries;  // entry n - 1 is write n; appended under mutex_
    std::atomic<uint64_t> completed{0};
    // The state after write `replayed[t]`, for the check of target t.
    std::array<uint64_t, kTargets> replayed{};
    std::array<std::array<std::array<uint64_t, kOwned>, kDisks>, kTargets> state{};
  };
  struct Window {
    std::atomic<uint64_t> issued{0};
    std::atomic<uint64_t> completed{0};
  };
  // What is known of all writers at one moment.
  struct Moment {
    std::array<uint64_t, kSequential> numbers;
    std::array<std::array<uint64_t, kManyBlocks>, kDisks> many;
  };

  void fault(const std::string& text) {
    const std::lock_guard lock(mutex_);
    if (faults_.size() < 5) faults_.push_back(text);
    has_fault_.store(true);
  }

  // -- Writers ----------------------------------------------------------------
  void write(uint64_t writer) {
    std::mt19937_64 random(parameters_.seed * 100 + writer);
    Bytes content(4 * kBlock);
    for (uint64_t number = 1; !is_ending_.load(); ++number) {
      const uint64_t index = random() % (kOwned - 3);
      Entry entry{random() % kDisks, writer * kOwned + index, 1 + random() % 4, random() % 6 == 0};
      {
        const std::lock_guard lock(mutex_);
        journals_[writer].entries.push_back(entry);
      }
      for (uint64_t i = 0; i < entry.count; ++i) {
        BlockContent{entry.disk, entry.first + i, writer, number}.store(&content[i * kBlock]);
      }
      if (!apply(entry, content, random).is_ok()) fault("a write failed");
      journals_[writer].completed.store(number);
    }
  }

  Status apply(const Entry& entry, const Bytes& content, std::mt19937_64& random) {
    BlockDevice& device = *disks_[entry.disk].device;
    const uint64_t offset = entry.first * kBlock;
    const uint64_t length = entry.count * kBlock;
    if (!entry.is_zero) return write_sync(device, offset, std::span(content).first(length));
    if (random() % 2 == 0) return trim_sync(device, offset, length);
    return write_zeroes_sync(device, offset, length);
  }

  void write_many() {
    std::mt19937_64 random(parameters_.seed * 100 + 99);
    std::map<std::pair<uint64_t, uint64_t>, std::unique_ptr<Request>> in_flight;
    std::array<std::array<uint64_t, kManyBlocks>, kDisks> numbers{};
    while (!is_ending_.load()) {
      const uint64_t disk = random() % kDisks;
      const uint64_t index = random() % kManyBlocks;
      auto& request = in_flight[{disk, index}];
      if (request != nullptr) request->wait();
      const uint64_t number = ++numbers[disk][index];
      const uint64_t block = kManyFirst + index;
      request = std::make_unique<Request>(IoOp::kWrite, block * kBlock, kBlock);
      BlockContent{disk, block, kSequential, number}.store(request->buffer().data());
      Window& window = windows_[disk][index];
      request->after = [&window, number] { window.completed.store(number); };
      window.issued.store(number);
      request->submit(*disks_[disk].device);
      if (random() % 32 == 0) std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
    for (auto& [place, request] : in_flight) request->wait();
  }

  // -- Cuts -------------------------------------------------------------------
  void cut(uint64_t target) {
    std::mt19937_64 random(parameters_.seed * 1000 + target);
    for (int i = 0; i < parameters_.cycles && !has_fault_.load(); ++i) cycle(target, random, true);
  }

  CaptureLimits random_limits(std::mt19937_64& random) const {
    CaptureLimits limits;
    switch (random() % 4) {
      case 0:  // most saved blocks are spilled
        limits.memory_bytes = 4 * kBlock;
        limits.spill_path = scratch_.path() + "/spill";
        break;
      case 1:  // may break
        limits.memory_bytes = 64 * kBlock;
        break;
      default:
        break;
    }
    return limits;
  }

  // False: the capture broke or was given up, and the replica is as before.
  bool cycle(uint64_t target, std::mt19937_64& random, bool may_give_up) {
    std::vector<CheckpointMember> members;
    for (uint64_t d = 0; d < kDisks; ++d) {
      members.push_back({disks_[d].device, slots_[target][d], random_limits(random)});
    }
    CheckpointOptions options;
    options.drain_limit = std::chrono::seconds(30);
    const Moment before = moment(true);
    auto outcome = take_checkpoint(members, options);
    const Moment after = moment(false);
    if (!outcome.is_ok()) {
      fault(outcome.status().message());
      return true;
    }
    std::vector<Bytes> next = replicas_[target];
    bool is_good = !(may_give_up && random() % 8 == 0);
    for (uint64_t d = 0; d < kDisks; ++d) {
      Capture& capture = *outcome.value().captures[d];
      if (!read_all(capture, next[d], random)) is_good = false;
      saved_bytes_.fetch_add(capture.saved_bytes());
      capture.close();
    }
    for (uint64_t d = 0; d < kDisks; ++d) {
      TrackedDevice& device = *disks_[d].device;
      const Status status =
          is_good ? device.commit(slots_[target][d]) : device.give_back(slots_[target][d]);
      if (!status.is_ok()) fault(status.message());
    }
    if (!is_good) return false;
    replicas_[target] = std::move(next);
    check(target, before, after);
    return true;
  }

  // All extents in pieces, in random order, each released once it is read.
  bool read_all(Capture& capture, Bytes& replica, std::mt19937_64& random) {
    std::vector<ByteExtent> pieces;
    for (uint64_t from = 0;;) {
      const auto extent = capture.next_extent(from, kBlock * (1 + random() % 5));
      if (!extent) break;
      pieces.push_back(*extent);
      from = extent->offset_bytes + extent->length_bytes;
    }
    std::shuffle(pieces.begin(), pieces.end(), random);
    for (const ByteExtent& piece : pieces) {
      const auto into = std::span(replica).subspan(piece.offset_bytes, piece.length_bytes);
      const Status status = capture.read(piece.offset_bytes, into);
      if (status.code() == ErrorCode::kCaptureBroken) return false;
      if (!status.is_ok()) fault("read: " + status.message());
      if (random() % 4 != 0) capture.release(piece.offset_bytes, piece.length_bytes);
      if (random() % 8 == 0) std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
    return true;
  }

  // -- Oracle -----------------------------------------------------------------
  Moment moment(bool is_completed) {
    Moment now{};
    for (uint64_t w = 0; w < kSequential; ++w) {
      const std::lock_guard lock(mutex_);
      now.numbers[w] = is_completed ? journals_[w].completed.load() : journals_[w].entries.size();
    }
    for (uint64_t d = 0; d < kDisks; ++d) {
      for (uint64_t i = 0; i < kManyBlocks; ++i) {
        Window& window = windows_[d][i];
        now.many[d][i] = is_completed ? window.completed.load() : window.issued.load();
      }
    }
    return now;
  }

  std::optional<uint64_t> number_at(uint64_t target, uint64_t disk, uint64_t block,
                                    uint64_t writer) {
    const std::byte* const from = &replicas_[target][disk][block * kBlock];
    const auto number = BlockContent::number_in(from, disk, block, writer);
    if (!number) fault("block " + std::to_string(block) + " of the replica is torn or misplaced");
    return number;
  }

  void check(uint64_t target, const Moment& before, const Moment& after) {
    for (uint64_t w = 0; w < kSequential; ++w) {
      check_prefix(target, w, before.numbers[w], after.numbers[w]);
    }
    for (uint64_t d = 0; d < kDisks; ++d) {
      for (uint64_t i = 0; i < kManyBlocks; ++i) {
        const auto number = number_at(target, d, kManyFirst + i, kSequential);
        if (!number || (*number >= before.many[d][i] && *number <= after.many[d][i])) continue;
        fault("block " + std::to_string(kManyFirst + i) + " holds write " +
              std::to_string(*number) + ", not one of " + std::to_string(before.many[d][i]) +
              " to " + std::to_string(after.many[d][i]));
      }
    }
  }

  void check_prefix(uint64_t target, uint64_t writer, uint64_t from, uint64_t to) {
    std::array<std::array<uint64_t, kOwned>, kDisks> found{};
    for (uint64_t d = 0; d < kDisks; ++d) {
      for (uint64_t i = 0; i < kOwned; ++i) {
        const auto number = number_at(target, d, writer * kOwned + i, writer);
        if (!number) return;
        found[d][i] = *number;
      }
    }
    Journal& journal = journals_[writer];
    const std::lock_guard lock(mutex_);
    replay(journal, target, writer, from);
    auto state = journal.state[target];
    for (uint64_t number = from; state != found; ++number) {
      if (number == to) {
        faults_.push_back("target " + std::to_string(target) + " writer " + std::to_string(writer) +
                          ": the replica is no prefix of " + std::to_string(from) + " to " +
                          std::to_string(to));
        has_fault_.store(true);
        return;
      }
      replay_one(journal.entries[number], number + 1, writer, state);
    }
  }

  template <typename State>
  static void replay_one(const Entry& entry, uint64_t number, uint64_t writer, State& state) {
    for (uint64_t i = 0; i < entry.count; ++i) {
      state[entry.disk][entry.first - writer * kOwned + i] = entry.is_zero ? 0 : number;
    }
  }
  static void replay(Journal& journal, uint64_t target, uint64_t writer, uint64_t until) {
    uint64_t& replayed = journal.replayed[target];
    for (; replayed < until; ++replayed) {
      replay_one(journal.entries[replayed], replayed + 1, writer, journal.state[target]);
    }
  }

  const Parameters parameters_;
  ScratchDirectory scratch_;
  std::vector<Disk> disks_;
  std::array<std::vector<uint32_t>, kTargets> slots_;
  std::array<std::vector<Bytes>, kTargets> replicas_;
  std::array<Journal, kSequential> journals_;
  std::array<std::array<Window, kManyBlocks>, kDisks> windows_;
  std::atomic<bool> is_ending_{false};
  std::atomic<bool> has_fault_{false};
  std::atomic<uint64_t> saved_bytes_{0};
  std::mutex mutex_;
  std::vector<std::string> faults_;
};

}  // namespace tidemark::tracking_test
