// One bitmap over simulated storage, and what it owes: a block that a successful
// merge, or a clean close, has made durable for a target stays set somewhere for
// that target until a commit, whatever is lost with the power.
//
// At every step (a call of the storage, a failpoint, the end of an operation) the
// storage is copied as a killed process and as a power loss would leave it, opened
// again, and compared with what is owed. The copy claims to be of the same boot, so
// that the bitmap trusts its maps: what is shown is that it may.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_set>
#include <vector>

#include "bitmap/bitmap_layout.h"
#include "bitmap_support.h"
#include "common/failpoint.h"
#include "simulated_storage.h"

namespace tidemark::simulation {

struct MapOperation {
  enum class Kind : uint8_t {
    kMark,
    kMerge,
    kTake,
    kTakeOne,
    kGiveBack,
    kStage,
    kUnstage,
    kCommit,
    kAddTarget,
    kRemoveTarget,
    kReopen,
    kGrow,
    kSuspect,
    kSuspectToPending,
    kFlip,         // and nothing merged after it: as before a close, or a failure
    kAddSuspect,   // a target of which nothing is known
    kFingerprint,  // another than the last: all is suspect
  };
  Kind kind;
  uint64_t argument = 0;  // the block of a mark, else the target's index

  std::string text() const {
    static const char* const names[] = {"mark",       "merge",
                                        "take",       "take one",
                                        "give back",  "stage",
                                        "unstage",    "commit",
                                        "add",        "remove",
                                        "reopen",     "grow",
                                        "suspect",    "suspect to pending",
                                        "flip",       "add suspect",
                                        "fingerprint"};
    return std::string(names[static_cast<size_t>(kind)]) + " " + std::to_string(argument);
  }
};

struct MapScene {
  uint64_t disk_size_bytes;
  uint32_t target_count;         // at first
  std::vector<uint64_t> blocks;  // those that are marked
};

// Decides about a step of the storage, knowing in which operation it is taken.
using Sabotage =
    std::function<StepVerdict(const StorageStep&, MapOperation::Kind, const DirtyBitmap*)>;

class MapCrashRun {
 public:
  static constexpr uint64_t kBlock = 4096;

  // What was looked at once, in this run or another, need not be again.
  using Checked = std::unordered_set<std::string>;

  MapCrashRun(const MapScene& scene, uint64_t seed, Checked& checked, Sabotage sabotage = {})
      : scene_(scene), random_(seed), checked_(checked), sabotage_(std::move(sabotage)) {
    storage_.only_written_until = kBitmapMapsOffsetBytes;
    storage_.timeless_word_at = kHeartbeatAt;
    storage_.on_step = [this](const StorageStep& step) {
      at_step();
      return sabotage_ ? sabotage_(step, kind_, bitmap_.get()) : StepVerdict::kWorks;
    };
    auto made = DirtyBitmap::create("b", {kDisk, scene.disk_size_bytes, 4096}, storage_);
    require_ok(made.status());
    bitmap_ = std::move(made).value();
    for (uint32_t i = 0; i < scene.target_count; ++i) add_target(i);
  }
  ~MapCrashRun() {
    observe_failpoints(nullptr);
    storage_.on_step = nullptr;
  }
  MapCrashRun(const MapCrashRun&) = delete;
  MapCrashRun& operator=(const MapCrashRun&) = delete;

  // Crashed at every step where `crashes`; empty, or what was found missing.
  std::string run(const MapOperation& operation, bool crashes) {
    crashes_ = crashes;
    kind_ = operation.kind;
    current() = this;
    observe_failpoints([](std::string_view) noexcept {
      if (current() != nullptr) current()->at_step();
    });
    apply(operation);
    at_step();
    observe_failpoints(nullptr);
    crashes_ = false;
    return finding_;
  }

  std::string state_key() {
    storage_.observe();
    return storage_.state_key() + std::to_string(bitmap_->targets().size());
  }
  uint64_t image_count() const { return image_count_; }
  const DirtyBitmap& bitmap() const { return *bitmap_; }

  static Uuid target_id(uint64_t index) {
    Uuid id = kReplicaA;
    id.bytes[15] = static_cast<uint8_t>(index + 1);
    return id;
  }

 private:
  using Kind = MapOperation::Kind;

  static MapCrashRun*& current() {
    static MapCrashRun* run = nullptr;
    return run;
  }

  void add_target(uint64_t index, SuspicionCauses causes = 0) {
    // Listed, it has its bits, even when the addition has not returned.
    const Uuid id = target_id(index);
    if (bitmap_->find_target(id)) return;
    for (const uint64_t block : scene_.blocks) owed_[id].insert(block);
    const ByteExtent all{0, bitmap_->disk_size_bytes()};
    const std::span<const ByteExtent> pending(&all, causes == 0 ? 1 : 0);
    if (bitmap_->add_target(id, pending, causes).is_ok()) listed_.insert(id);
  }
  void remove_target(uint64_t index) {
    const Uuid id = target_id(index);
    const auto slot = bitmap_->find_target(id);
    if (!slot) return;
    listed_.erase(id);
    // Until it has returned the target may be listed, and then it has its bits.
    if (bitmap_->remove_target(*slot).is_ok()) owed_.erase(id);
  }

  void apply(const MapOperation& operation) {
    DirtyBitmap& bitmap = *bitmap_;
    const auto slot = bitmap.find_target(target_id(operation.argument));
    switch (operation.kind) {
      case Kind::kMark:
        bitmap.mark(operation.argument * kBlock, 1);
        live_.insert(operation.argument);
        return;
      case Kind::kMerge:
        return merge();
      case Kind::kFlip:
        return bitmap.flip();
      case Kind::kFingerprint:
        return settle_fingerprint();
      case Kind::kAddSuspect:
        return add_target(operation.argument,
                          static_cast<SuspicionCauses>(SuspicionCause::kMapLost));
      case Kind::kAddTarget:
        return add_target(operation.argument);
      case Kind::kRemoveTarget:
        return remove_target(operation.argument);
      case Kind::kReopen:
        return reopen();
      case Kind::kGrow:
        return grow();
      default:
        break;
    }
    if (!slot) return;
    if (operation.kind == Kind::kTake) (void)bitmap.take_pending(*slot);
    if (operation.kind == Kind::kTakeOne) (void)bitmap.take_pending(*slot, 1);
    if (operation.kind == Kind::kGiveBack) (void)bitmap.give_back(*slot);
    if (operation.kind == Kind::kStage) (void)bitmap.stage(*slot);
    if (operation.kind == Kind::kUnstage) (void)bitmap.unstage(*slot);
    if (operation.kind == Kind::kCommit) commit(*slot);
    if (operation.kind == Kind::kSuspect) suspect(*slot);
    if (operation.kind == Kind::kSuspectToPending) {
      (void)bitmap.suspect_to_pending(*slot, 0, bitmap.disk_size_bytes());
    }
  }
  void merge() {
    bitmap_->flip();
    // A merge that fails has to be repeated before the next flip.
    for (int attempt = 0; attempt < 3; ++attempt) {
      if (!bitmap_->merge_closed().is_ok()) continue;
      if (!listed_.empty()) owe_live();
      return;
    }
  }
  void owe_live() {
    for (const Uuid& id : listed_) owed_[id].insert(live_.begin(), live_.end());
    live_.clear();
    durable_live_.clear();
  }
  void commit(uint32_t slot) {
    const Uuid id = id_of(slot);
    std::erase_if(owed_[id], [&](uint64_t block) {
      return !bitmap_->is_dirty(MapId::pending(slot), block) &&
             !bitmap_->is_dirty(MapId::suspect(slot), block) && durable_live_.count(block) == 0;
    });
    (void)bitmap_->commit(slot);
  }
  void suspect(uint32_t slot) {
    const uint64_t block = scene_.blocks[suspected_count_++ % scene_.blocks.size()];
    const Status status =
        bitmap_->mark_suspect(slot, block * kBlock, kBlock, SuspicionCause::kOrdered);
    if (status.is_ok()) owed_[id_of(slot)].insert(block);
  }
  // Where the new one is, all is suspect: the next open finds nothing strange any more.
  void settle_fingerprint() {
    settled_size_ = ++settled_count_;
    BackingFingerprint now;
    now.state = BackingFingerprint::State::kClosed;
    now.size_bytes = settled_size_;
    if (!bitmap_->settle_fingerprint(static_cast<SuspicionCauses>(SuspicionCause::kReplaced), now)
             .is_ok())
      return;
    for (const Uuid& id : listed_) owed_[id].insert(scene_.blocks.begin(), scene_.blocks.end());
    settled_size_ = 0;
  }
  Uuid id_of(uint32_t slot) const {
    for (const auto& target : bitmap_->targets()) {
      if (target.slot == slot) return target.id;
    }
    return {};
  }
  void reopen() {
    const bool is_clean = bitmap_->close().is_ok();
    if (is_clean) {
      durable_live_ = live_;
      for (const Uuid& id : listed_) owed_[id].insert(live_.begin(), live_.end());
    }
    at_step();
    const uint64_t size_bytes = bitmap_->disk_size_bytes();
    bitmap_.reset();
    auto opened = DirtyBitmap::open("b", kDisk, size_bytes, storage_);
    for (int attempt = 0; attempt < 3 && !opened.is_ok(); ++attempt) {
      opened = DirtyBitmap::open("b", kDisk, size_bytes, storage_);
    }
    require_ok(opened.status());
    bitmap_ = std::move(opened).value();
  }
  void grow() {
    const uint64_t larger = bitmap_->disk_size_bytes() + 64 * kBlock;
    if (!bitmap_->begin_growth(larger).is_ok()) return;
    size_bytes_after_ = larger;
    (void)bitmap_->finish_growth();
  }

  // -- Crashes ----------------------------------------------------------------
  void at_step() {
    storage_.observe();
    if (!crashes_ || is_checking_ || !finding_.empty()) return;
    is_checking_ = true;
    check(*storage_.after_process_crash(), "the process was killed", 1);
    const size_t pages = storage_.unsynced_page_count();
    const uint64_t subsets = pages <= 4 ? 1ULL << pages : 12;
    for (uint64_t i = 0; i < subsets; ++i) {
      const uint64_t subset = pages <= 4 ? i : random_();
      lose_power(Loss::kSubset, subset | (random_() % 2) << 63);
    }
    for (int i = 0; i < 2; ++i) lose_power(Loss::kTorn, random_());
    is_checking_ = false;
  }
  void lose_power(Loss loss, uint64_t subset) {
    const auto image = storage_.after_power_loss(loss, subset, random_);
    image->set_boot_number(storage_.boot_number());
    check(*image, "the power was lost", 1);
  }

  // Also while it recovers the power may go, once more.
  void check(SimulatedStorage& image, const std::string& what, int depth) {
    if (!finding_.empty()) return;
    // A fingerprint is where the key does not look.
    const bool is_known = depth == 1 && !checked_.insert(image.state_key() + owed_key()).second;
    if (is_known && settled_size_ == 0) return;
    ++image_count_;
    image.on_step = [&](const StorageStep& step) {
      const StepVerdict verdict =
          sabotage_ ? sabotage_(step, Kind::kReopen, nullptr) : StepVerdict::kWorks;
      if (depth == 0) return verdict;
      image.observe();
      for (const uint64_t subset : {uint64_t{0}, UINT64_MAX, random_()}) {
        const auto again = image.after_power_loss(Loss::kSubset, subset, random_);
        again->set_boot_number(image.boot_number());
        check(*again, what + ", and again while it recovered", depth - 1);
      }
      return verdict;
    };
    const auto opened = DirtyBitmap::open("b", kDisk, size_at(image), image);
    if (!opened.is_ok()) {
      if (!sabotage_) finding_ = what + ": " + opened.status().message();
      if (sabotage_ && opened.status().code() != ErrorCode::kIo) finding_ = what + ": not opened";
      return;
    }
    compare(*opened.value(), what);
  }
  // The disk has grown before its bitmap does.
  uint64_t size_at(const SimulatedStorage&) const {
    return std::max(bitmap_ ? bitmap_->disk_size_bytes() : 0,
                    std::max(size_bytes_after_, scene_.disk_size_bytes));
  }
  void compare(const DirtyBitmap& bitmap, const std::string& what) {
    std::set<Uuid, UuidLess> found;
    for (const auto& target : bitmap.targets()) {
      found.insert(target.id);
      const auto owed = owed_.find(target.id);
      if (owed == owed_.end()) {
        finding_ = what + ": a target that was removed is back";
        return;
      }
      std::set<uint64_t> blocks = owed->second;
      if (settled_size_ != 0 && bitmap.fingerprint().size_bytes == settled_size_) {
        blocks.insert(scene_.blocks.begin(), scene_.blocks.end());
      }
      for (const uint64_t block : blocks) {
        if (is_marked(bitmap, target.slot, block)) continue;
        finding_ = what + ": block " + std::to_string(block) + " of slot " +
                   std::to_string(target.slot) + " is marked nowhere";
      }
    }
    for (const Uuid& id : listed_) {
      if (found.count(id) == 0) finding_ = what + ": a target is gone";
    }
  }
  static bool is_marked(const DirtyBitmap& bitmap, uint32_t slot, uint64_t block) {
    for (const MapId map : {MapId::live(), MapId::closed(), MapId::pending(slot),
                            MapId::in_flight(slot), MapId::staged(slot), MapId::suspect(slot)}) {
      if (bitmap.is_dirty(map, block)) return true;
    }
    return false;
  }
  std::string owed_key() const {
    std::string key;
    for (const auto& [id, blocks] : owed_) {
      key += '#' + id.to_string();
      for (const uint64_t block : blocks) key += ' ' + std::to_string(block);
    }
    return key;
  }

  struct UuidLess {
    bool operator()(const Uuid& a, const Uuid& b) const { return a.bytes < b.bytes; }
  };

  const MapScene scene_;
  Random random_;
  Checked& checked_;
  const Sabotage sabotage_;
  SimulatedStorage storage_;
  std::unique_ptr<DirtyBitmap> bitmap_;
  uint64_t size_bytes_after_ = 0;
  uint64_t suspected_count_ = 0;
  uint64_t settled_count_ = 0;
  uint64_t settled_size_ = 0;  // of the fingerprint that is being settled; 0: none

  std::set<uint64_t> live_;          // marked since the last merge, so not durable
  std::set<uint64_t> durable_live_;  // those of them that a clean close made so
  std::map<Uuid, std::set<uint64_t>, UuidLess> owed_;
  std::set<Uuid, UuidLess> listed_;  // their addition has returned, their removal not begun

  MapOperation::Kind kind_ = MapOperation::Kind::kAddTarget;
  bool crashes_ = false;
  bool is_checking_ = false;
  uint64_t image_count_ = 0;
  std::string finding_;
};

}  // namespace tidemark::simulation
