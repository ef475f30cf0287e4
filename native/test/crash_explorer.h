// Crashes a CrashWorld: at every step of storage, disk, replica and code (its
// failpoints) it copies the world as a killed process and as a power loss would
// leave it, opens the copy and looks for a lie.
#pragma once

#include <cassert>
#include <string>
#include <utility>
#include <vector>

#include "common/failpoint.h"
#include "crash_world.h"

namespace tidemark::simulation {

struct CrashSettings {
  uint64_t one_step_in = 1;    // how many of the steps are crashed
  int torn_count = 2;          // power losses of each, beside nothing lost and all lost
  bool crashes_again = false;  // also while the copy recovers
  uint64_t again_one_in = 1;   // at how many of the steps of its recovery
  uint64_t fault_one_in = 0;   // how many operations of storage and disk fail; 0: none
};

struct GuestOperation {
  enum class Kind : uint8_t {
    kWrite,
    kHeldWrite,
    kLetGo,
    kTrim,
    kZero,
    kFlush,
    kCheckpoint,
    kRead,
    kCommit,
    kGiveBack,
    kDrain,
    kLoseStaging,
    kAddEmpty,
    kAddEqual,
    kRemove,
    kReopen,
    kQuietDown,
    kPowerSafe,    // how it is opened from now on, after a crash too
    kProcessSafe,  // the same
  };
  Kind kind;
  uint64_t argument = 0;  // a block, or a target
  uint64_t count = 1;

  std::string text() const {
    static const char* const names[] = {"write",      "held write", "let go",      "trim",
                                        "zero",       "flush",      "checkpoint",  "read",
                                        "commit",     "give back",  "drain",       "lose staging",
                                        "add empty",  "add equal",  "remove",      "reopen",
                                        "quiet down", "power-safe", "process-safe"};
    return std::string(names[static_cast<size_t>(kind)]) + ' ' + std::to_string(argument);
  }
};

class CrashExplorer {
 public:
  using Kind = GuestOperation::Kind;
  // What removing a call would do; see StepVerdict.
  using Sabotage = std::function<StepVerdict(const StorageStep&, Kind)>;

  CrashExplorer(std::unique_ptr<CrashWorld> world, CrashSettings settings, uint64_t seed,
                Sabotage sabotage = {})
      : settings_(settings), random_(seed), sabotage_(std::move(sabotage)) {
    adopt(std::move(world));
  }
  ~CrashExplorer() {
    observe_failpoints(nullptr);
    current() = nullptr;
  }
  CrashExplorer(const CrashExplorer&) = delete;
  CrashExplorer& operator=(const CrashExplorer&) = delete;

  CrashWorld& world() { return *world_; }
  uint64_t image_count() const { return image_count_; }
  const std::string& finding() const { return finding_; }

  // Guest writes reach the disk before they are marked: what the order of
  // TrackedDevice is for.
  bool marks_late = false;
  // The flush of the disk by a quiet-down, or by a close, does nothing.
  bool quiets_without_flush = false;
  // The bitmap commits before the replica has.
  bool commits_early = false;

  bool run(const GuestOperation& operation) {
    kind_ = operation.kind;
    const bool is_settling = kind_ == Kind::kQuietDown || kind_ == Kind::kReopen;
    world_->disk->pretends_to_flush = quiets_without_flush && is_settling;
    history_ += operation.text() + "; ";
    is_active_ = true;
    apply(operation);
    at_step("the end of the operation");
    is_active_ = false;
    if (finding_.empty()) note(world_->finding, "");
    if (finding_.empty()) note(world_->lie(), "without any crash: ");
    return finding_.empty();
  }

  // Crashed now, however few of the steps are.
  void crash_here() {
    is_active_ = true;
    world_->storage->observe();
    examine("where the test says");
    is_active_ = false;
  }

  // The next step's crash becomes the world. False: none could be opened.
  bool crash_into(bool loses_power) {
    history_ += loses_power ? "POWER LOSS; " : "KILL; ";
    auto left = loses_power ? power_loss(Loss::kTorn) : kill();
    left->storage->on_step = [this](const StorageStep& step) {
      return sabotage_ ? sabotage_(step, Kind::kReopen) : StepVerdict::kWorks;
    };
    if (Status status = left->open(); !status.is_ok()) {
      note(status.message(), "not opened after a crash: ");
      return false;
    }
    adopt(std::move(left));
    return true;
  }

 private:
  static CrashExplorer*& current() {
    static CrashExplorer* explorer = nullptr;
    return explorer;
  }

  void adopt(std::unique_ptr<CrashWorld> world) {
    const uint64_t last_value = world_ != nullptr ? world_->last_value : 0;
    world_ = std::move(world);
    world_->last_value = last_value;
    world_->storage->on_step = [this](const StorageStep& step) {
      at_step("a step of the storage");
      if (sabotage_) return sabotage_(step, kind_);
      const bool can_fail = step.op == StorageOp::kSync || step.op == StorageOp::kSyncAll ||
                            step.op == StorageOp::kWrite || step.op == StorageOp::kAllocate;
      return can_fail && fails() ? StepVerdict::kFails : StepVerdict::kWorks;
    };
    world_->disk->on_step = [this](const IoRequest& request) {
      // A read changes nothing: of many in a row the first finds what all would.
      if (request.op != IoOp::kRead || has_changed_) at_step("a request at the disk");
      has_changed_ = request.op != IoOp::kRead;
      return fails() ? EIO : 0;
    };
    world_->on_replica_changed = [this] { at_step("a change of the replica"); };
    current() = this;
    observe_failpoints([](std::string_view name) noexcept {
      if (current() != nullptr) current()->at_step(name);
    });
  }
  // Not at once again: what notes that something failed gets through. A storage that
  // takes nothing at all any more can be told nothing.
  bool fails() {
    if (!is_active_ || is_checking_ || settings_.fault_one_in == 0) return false;
    if (spared_count_ > 0) {
      --spared_count_;
      return false;
    }
    if (random_() % settings_.fault_one_in != 0) return false;
    spared_count_ = 8;
    return true;
  }

  void apply(const GuestOperation& operation) {
    CrashWorld& world = *world_;
    const uint64_t offset_bytes = operation.argument * kBlockBytes;
    const uint64_t end_bytes =
        std::min(offset_bytes + operation.count * kBlockBytes, world.disk->size_bytes());
    const uint64_t length_bytes = end_bytes - offset_bytes;
    switch (operation.kind) {
      case Kind::kWrite:
        return write(offset_bytes, length_bytes);
      case Kind::kHeldWrite:
        world.disk->holds = [](const IoRequest& request) { return request.is_write_class(); };
        world.request(IoOp::kWrite, offset_bytes, length_bytes);
        world.disk->holds = nullptr;
        return;
      case Kind::kLetGo:
        return world.let_go();
      case Kind::kTrim:
        return world.request(IoOp::kTrim, offset_bytes, length_bytes);
      case Kind::kZero:
        return world.request(IoOp::kWriteZeroes, offset_bytes, length_bytes);
      case Kind::kFlush:
        return world.request(IoOp::kFlush, 0, 0);
      case Kind::kReopen:
        return reopen();
      case Kind::kQuietDown:
        return world.quiet_down();
      case Kind::kPowerSafe:
        return world.set_durability(Durability::kPowerSafe);
      case Kind::kProcessSafe:
        return world.set_durability(Durability::kProcessSafe);
      default:
        return apply_to_target(world, operation.kind, operation.argument);
    }
  }
  void apply_to_target(CrashWorld& world, Kind kind, uint64_t target) {
    switch (kind) {
      case Kind::kCheckpoint:
        return world.checkpoint(target);
      case Kind::kRead:
        return world.read_cut(target);
      case Kind::kCommit:
        return world.commit(target, commits_early);
      case Kind::kGiveBack:
        return world.give_back(target);
      case Kind::kDrain:
        return world.drain(target);
      case Kind::kLoseStaging:
        return world.lose_staging(target);
      case Kind::kAddEmpty:
        return world.add_target(target, TargetStart::kAll);
      case Kind::kAddEqual:
        return world.add_target(target, TargetStart::kNothing);
      default:
        assert(kind == Kind::kRemove);
        return world.remove_target(target);
    }
  }
  void write(uint64_t offset_bytes, uint64_t length_bytes) {
    if (marks_late) {
      GuestRequest early(IoOp::kWrite, offset_bytes, length_bytes, world_->last_value + 1);
      early.submit(*world_->disk);
      at_step("a write without its mark");
    }
    world_->request(IoOp::kWrite, offset_bytes, length_bytes);
  }
  void reopen() {
    Status status = world_->close_and_open();
    for (int attempt = 0; attempt < 20 && !status.is_ok(); ++attempt) status = world_->open();
    if (!status.is_ok()) note(status.message(), "not opened again: ");
  }

  void at_step(std::string_view where) {
    has_changed_ = true;
    if (!is_active_ || is_checking_ || !finding_.empty()) return;
    world_->storage->observe();
    if (random_() % settings_.one_step_in != 0) return;
    examine(where);
  }
  void examine(std::string_view where) {
    is_checking_ = true;
    const std::string place = " at " + std::string(where) + ": ";
    check(kill(), "killed" + place);
    check(power_loss(Loss::kAll), "power lost with all that was in caches" + place);
    check(power_loss(Loss::kSubset), "power lost" + place);
    for (int i = 0; i < settings_.torn_count; ++i)
      check(power_loss(Loss::kTorn), "power lost" + place);
    is_checking_ = false;
  }
  std::unique_ptr<CrashWorld> kill() {
    return std::make_unique<CrashWorld>(world_->storage->after_process_crash(),
                                        world_->disk->after_process_crash(random_),
                                        world_->replicas, world_->durability(), random_());
  }
  // Under kSubset the storage keeps everything and the disk any part, or the reverse.
  std::unique_ptr<CrashWorld> power_loss(Loss loss) {
    const uint64_t subset = random_() % 2 == 0 ? UINT64_MAX : random_();
    const Loss of_disk =
        loss == Loss::kSubset ? (random_() % 2 == 0 ? Loss::kAll : Loss::kTorn) : loss;
    return std::make_unique<CrashWorld>(world_->storage->after_power_loss(loss, subset, random_),
                                        world_->disk->after_power_loss(of_disk, random_),
                                        world_->replicas, world_->durability(), random_());
  }
  void check(std::unique_ptr<CrashWorld> left, const std::string& what) {
    if (!finding_.empty()) return;
    ++image_count_;
    CrashWorld& world = *left;
    world.storage->on_step = [&](const StorageStep& step) {
      if (settings_.crashes_again && random_() % settings_.again_one_in == 0) {
        crash_again(world, "again, as it recovered, after: " + what);
      }
      return sabotage_ ? sabotage_(step, Kind::kReopen) : StepVerdict::kWorks;
    };
    const Status status = world.open();
    world.storage->on_step = nullptr;
    if (!status.is_ok()) return note(status.message(), what + "not opened: ");
    note(world.lie(), what);
    if (settings_.crashes_again) crash_again(world, "again, when it had recovered, after: " + what);
  }
  void crash_again(CrashWorld& world, const std::string& what) {
    world.storage->observe();
    for (int i = 0; i <= settings_.torn_count; ++i) {
      const Loss loss = i == 0 ? Loss::kAll : Loss::kTorn;
      CrashWorld again(world.storage->after_power_loss(loss, 0, random_),
                       world.disk->after_power_loss(loss, random_), world.replicas,
                       world.durability(), random_());
      const Status status = again.open();
      note(status.is_ok() ? again.lie() : status.message(), what);
    }
  }
  void note(const std::string& lie, const std::string& what) {
    if (lie.empty() || !finding_.empty()) return;
    finding_ = history_ + what + lie;
  }

  const CrashSettings settings_;
  Random random_;
  const Sabotage sabotage_;
  std::unique_ptr<CrashWorld> world_;
  Kind kind_ = Kind::kWrite;
  bool is_active_ = false;
  bool is_checking_ = false;
  bool has_changed_ = true;  // since the last read at the disk
  uint64_t spared_count_ = 0;
  uint64_t image_count_ = 0;
  std::string history_;
  std::string finding_;
};

}  // namespace tidemark::simulation
