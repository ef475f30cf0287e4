// A model checker without a model: it drives the real gate, bitmap, tracked device
// and capture, one step at a time, through every order of the steps of a few actors.
//
// An actor is a fiber. It pauses where another thread could come in between: where
// it says so, at the code's failpoint between mark and write, and at the disk. A
// request at the disk has its effect in one step and completes in a later one. Every
// order is found by running again from the start with the next choice (depth first);
// a state in which nobody can go on and somebody is not done is a deadlock.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bitmap_support.h"
#include "common/failpoint.h"
#include "device/block_device.h"
#include "fiber.h"
#include "simulated_storage.h"
#include "tracking/frozen_capture.h"
#include "tracking/tracked_device.h"
#include "tracking/tracked_device_impl.h"

namespace tidemark::simulation {

// Blocks of 4 KiB that hold one number each. A request waits for its steps, but for
// those of the fiber that blocks for them.
class SteppedDisk final : public BlockDevice {
 public:
  static constexpr uint64_t kBlock = 4096;

  explicit SteppedDisk(uint64_t block_count) : content(block_count) {
    traits_.trim_reads_zero = true;
  }

  uint64_t size_bytes() const noexcept override { return content.size() * kBlock; }
  const DeviceTraits& traits() const noexcept override { return traits_; }
  void submit(IoRequest& request) noexcept override {
    if (reader == nullptr || reader != Fiber::current()) {
      steps_.push_back({&request, false});
      return;
    }
    if (before_fetch) before_fetch();
    affect(request);
    if (after_fetch) after_fetch();
    request.complete(0);
  }

  // A read that somebody else waits for is under way.
  bool has_read() const {
    return std::any_of(steps_.begin(), steps_.end(),
                       [](const Step& step) { return step.request->op == IoOp::kRead; });
  }
  size_t step_count() const { return steps_.size(); }
  void step(size_t index) {
    if (!steps_[index].has_effect) {
      steps_[index].has_effect = true;
      affect(*steps_[index].request);
      if (!is_split) step(index);
      return;
    }
    IoRequest* const request = steps_[index].request;
    steps_.erase(steps_.begin() + static_cast<std::ptrdiff_t>(index));
    request->complete(0);
  }

  std::vector<uint64_t> content;
  Fiber* reader = nullptr;  // its requests end before submit() returns
  std::function<void()> before_fetch;
  std::function<void()> after_fetch;
  bool is_split = true;  // effect and completion are two steps

 private:
  struct Step {
    IoRequest* request;
    bool has_effect;
  };

  void affect(const IoRequest& request) noexcept {
    for (uint64_t at = 0; at < request.length_bytes; at += kBlock) {
      uint64_t& block = content[(request.offset_bytes + at) / kBlock];
      if (request.op == IoOp::kRead) {
        std::memcpy(request.data + at, &block, sizeof block);
      } else if (request.op == IoOp::kWrite) {
        std::memcpy(&block, request.data + at, sizeof block);
      } else if (request.is_write_class()) {
        block = 0;
      }
    }
  }

  DeviceTraits traits_;
  std::vector<Step> steps_;
};

// How an actor of the test is wrong.
enum class Fault : uint8_t {
  kNone,
  kNoCopy,        // a write goes to the disk without saving what it overwrites
  kLateMark,      // the mark comes after the write
  kNotCounted,    // the gate does not know of the write
  kEarlyRelease,  // a block is released before it was read
  kNoDrain,       // the cut does not wait for who is inside
};

class Interleaving {
 public:
  static constexpr uint64_t kBlock = SteppedDisk::kBlock;
  static constexpr uint64_t kBlocks = 2;

  explicit Interleaving(Fault fault)
      : fault_(fault), disk_(std::make_shared<SteppedDisk>(kBlocks)) {
    storage_.can_crash = false;
    auto made = DirtyBitmap::create("b", {kDisk, kBlocks * kBlock, 4096, Durability::kProcessSafe},
                                    storage_);
    require_ok(made.status());
    bitmap_ = std::move(made).value();
    device_ = std::make_shared<TrackedDevice>(disk_, bitmap_, std::chrono::milliseconds(0));
    slot_ = device_->add_target(kReplicaA).value();
    replica_.assign(kBlocks, 0);
    storage_.on_step = [this](const StorageStep& step) {
      if (pauses_in_merge && step.op == StorageOp::kSync) pause();
      return StepVerdict::kWorks;
    };
  }
  ~Interleaving() { observe_failpoints(nullptr); }
  Interleaving(const Interleaving&) = delete;
  Interleaving& operator=(const Interleaving&) = delete;

  bool pauses_at_mark = true;
  bool pauses_in_merge = false;

  SteppedDisk& disk() { return *disk_; }

  // Before the actors: the block was written, and the replica lacks it.
  void begin_dirty(uint64_t block, uint64_t value) {
    disk_->content[block] = value;
    bitmap_->mark(block * kBlock, kBlock);
  }

  void add_writer(IoOp op, uint64_t first_block, uint64_t block_count, uint64_t value) {
    add([this, op, first_block, block_count, value] {
      write(op, first_block, block_count, value);
    });
  }
  // Cuts, reads all of the capture, releases and closes it.
  void add_cycle(bool pauses_in_read) {
    add([this, pauses_in_read] {
      cut();
      pause();
      read_capture(pauses_in_read);
    });
  }
  // The cut is there already when the actors begin.
  void add_reader() {
    cut();
    add([this] { read_capture(true); });
  }

  // Runs to the end, choose(n) deciding among n ways to go on. Empty, or what is wrong.
  std::string run(const std::function<size_t(size_t)>& choose) {
    current() = this;
    observe_failpoints([](std::string_view name) noexcept {
      if (current()->pauses_at_mark && name == "mark") current()->pause();
    });
    for (;;) {
      std::vector<Actor*> ready;
      for (const auto& actor : actors_) {
        if (!actor->fiber.is_done() && (!actor->can_go_on || actor->can_go_on())) {
          ready.push_back(actor.get());
        }
      }
      const size_t ways = ready.size() + disk_->step_count();
      if (ways == 0) break;
      const size_t way = choose(ways);
      if (way < ready.size()) {
        running_ = ready[way];
        running_->can_go_on = nullptr;
        running_->fiber.resume();
      } else {
        disk_->step(way - ready.size());
      }
    }
    observe_failpoints(nullptr);
    return verdict();
  }

 private:
  struct Actor {
    explicit Actor(std::function<void()> body) : fiber(std::move(body)) {}
    Fiber fiber;
    std::function<bool()> can_go_on;
  };
  struct Write {
    IoRequest request;
    std::vector<std::byte> buffer;
    bool is_done = false;
  };

  static Interleaving*& current() {
    static Interleaving* current = nullptr;
    return current;
  }

  void add(std::function<void()> body) {
    actors_.push_back(std::make_unique<Actor>(std::move(body)));
  }
  void pause() {
    if (Fiber::current() != nullptr) Fiber::current()->pause();
  }
  void pause_until(std::function<bool()> can_go_on) {
    if (Fiber::current() == nullptr) return;
    running_->can_go_on = std::move(can_go_on);
    pause();
  }

  // -- A writer ------------------------------------------------------------------
  void write(IoOp op, uint64_t first_block, uint64_t block_count, uint64_t value) {
    auto write = std::make_unique<Write>();
    IoRequest& request = write->request;
    request.op = op;
    request.offset_bytes = first_block * kBlock;
    request.length_bytes = block_count * kBlock;
    if (op == IoOp::kWrite) {
      write->buffer.resize(request.length_bytes);
      for (uint64_t at = 0; at < request.length_bytes; at += kBlock) {
        std::memcpy(&write->buffer[at], &value, sizeof value);
      }
      request.data = write->buffer.data();
    }
    Write* const own = write.get();
    writes_.push_back(std::move(write));
    request.push([](IoRequest&, void* context, uint64_t,
                    int) noexcept { static_cast<Write*>(context)->is_done = true; },
                 own);
    if (fault_ == Fault::kNone || fault_ == Fault::kEarlyRelease || fault_ == Fault::kNoDrain) {
      device_->submit(request);
    } else {
      write_wrongly(request, *own);
    }
  }
  // TrackedDevice's steps, one of them missing or misplaced.
  void write_wrongly(IoRequest& request, Write& own) {
    Gate& gate = device_->impl().gate();
    uint64_t ticket = 0;
    if (fault_ != Fault::kNotCounted) {
      if (!gate.enter(request, ticket)) return;  // parked: the opener brings it to the device
    }
    if (fault_ != Fault::kLateMark) bitmap_->mark(request.offset_bytes, request.length_bytes);
    pause();
    disk_->submit(request);
    pause_until([&own] { return own.is_done; });
    if (fault_ == Fault::kLateMark) {
      gate.leave(ticket);
      pause();
      bitmap_->mark(request.offset_bytes, request.length_bytes);
    } else if (fault_ != Fault::kNotCounted) {
      gate.leave(ticket);
    }
  }

  // -- The cycle: the steps of take_checkpoint(), in its order ------------------------
  void cut() {
    TrackedDevice::Impl& device = device_->impl();
    auto frozen = FrozenBlocks::create(device.shared_backing(), *bitmap_, slot_, {});
    require_ok(frozen.status());
    (void)device.captures().occupy(slot_);
    capture_ = std::make_shared<FrozenCapture>(device_, slot_, std::move(frozen).value());
    device.gate().close();
    if (fault_ != Fault::kNoDrain) {
      pause_until([&device] { return device.gate().wait_drained({}); });
    }
    bitmap_->flip();
    retired_ = capture_->publish();
    at_cut_ = disk_->content;
    pause();
    device.submit_parked(device.gate().open());
    pause();
    require_ok(bitmap_->merge_closed());
    pause();
    require_ok(bitmap_->take_pending(slot_));
    pause();
    capture_->on_merged();
    for (uint64_t block = 0; block < kBlocks; ++block) {
      is_captured_[block] = bitmap_->is_dirty(MapId::in_flight(slot_), block);
    }
  }
  void read_capture(bool pauses_in_read) {
    for (uint64_t block = 0; block < kBlocks; ++block) {
      if (!is_captured_[block]) {
        if (at_cut_[block] != replica_[block]) finding_ = "a changed block is not in the capture";
        continue;
      }
      if (fault_ == Fault::kEarlyRelease) capture_->release(block * kBlock, kBlock);
      read_block(block, pauses_in_read);
      capture_->release(block * kBlock, kBlock);
    }
    if (pauses_in_read) pause();
    capture_->close();
  }
  void read_block(uint64_t block, bool pauses_in_read) {
    std::vector<std::byte> bytes(kBlock);
    Status status;
    if (fault_ == Fault::kEarlyRelease) {
      pause();
      std::memcpy(bytes.data(), &disk_->content[block], sizeof(uint64_t));
    } else {
      // A copy under way is waited for on a condition: nothing else could run here.
      const auto no_copy = [this] { return !disk_->has_read(); };
      if (disk_->has_read()) pause_until(no_copy);
      disk_->reader = Fiber::current();
      disk_->before_fetch = [this, pauses_in_read] {
        if (pauses_in_read) pause();
      };
      disk_->after_fetch = [this, pauses_in_read, no_copy] {
        if (pauses_in_read) pause_until(no_copy);
      };
      status = capture_->read(block * kBlock, bytes);
      disk_->reader = nullptr;
    }
    if (!status.is_ok()) finding_ = "the capture was not read: " + status.message();
    uint64_t value = 0;
    std::memcpy(&value, bytes.data(), sizeof value);
    replica_[block] = value;
    if (value != at_cut_[block]) {
      finding_ = "block " + std::to_string(block) + " is not that of the cut";
    }
  }

  // -- What must hold at the end --------------------------------------------------------
  std::string verdict() {
    if (!finding_.empty()) return finding_;
    for (const auto& actor : actors_) {
      if (!actor->fiber.is_done()) return "somebody waits for ever";
    }
    for (const auto& write : writes_) {
      if (!write->is_done) return "a write is never answered";
    }
    for (uint64_t block = 0; block < kBlocks; ++block) {
      const bool is_marked = bitmap_->is_dirty(MapId::live(), block) ||
                             bitmap_->is_dirty(MapId::closed(), block) ||
                             bitmap_->is_dirty(MapId::pending(slot_), block);
      if (disk_->content[block] == replica_[block] || is_marked) continue;
      return "block " + std::to_string(block) + " changed and is not marked";
    }
    return {};
  }

  const Fault fault_;
  SimulatedStorage storage_;
  std::shared_ptr<SteppedDisk> disk_;
  std::shared_ptr<DirtyBitmap> bitmap_;
  std::shared_ptr<TrackedDevice> device_;
  uint32_t slot_ = 0;
  std::shared_ptr<FrozenCapture> capture_;
  std::vector<std::shared_ptr<FrozenBlocks>> retired_;
  std::vector<std::unique_ptr<Write>> writes_;
  std::vector<std::unique_ptr<Actor>> actors_;
  Actor* running_ = nullptr;
  std::vector<uint64_t> at_cut_;
  std::vector<uint64_t> replica_;  // what the cycle brought there
  std::array<bool, kBlocks> is_captured_{};
  std::string finding_;
};

struct Exploration {
  uint64_t order_count = 0;
  std::string finding;
};

// Every order, or up to the first one that is wrong. `prepare` adds the actors.
inline Exploration explore(Fault fault, const std::function<void(Interleaving&)>& prepare) {
  Exploration result;
  std::vector<std::pair<size_t, size_t>> path;  // the way taken, of how many
  do {
    Interleaving one(fault);
    prepare(one);
    size_t depth = 0;
    result.finding = one.run([&](size_t ways) {
      if (depth == path.size()) path.emplace_back(0, ways);
      return path[depth++].first;
    });
    ++result.order_count;
    if (!result.finding.empty()) return result;
    while (!path.empty() && path.back().first + 1 == path.back().second) path.pop_back();
    if (!path.empty()) ++path.back().first;
  } while (!path.empty());
  return result;
}

}  // namespace tidemark::simulation
