// A tracked disk on simulated storage, with what each of its targets' replicas
// holds, and the one question: is there a block that differs from a replica and is
// neither marked for it nor suspect?
//
// A replica is a model: its content, and what a staging session holds beside it. It
// changes when a real one would, before the bitmap hears of it. A world that is
// crashed goes on; the question is asked of a copy, opened again.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bitmap/bitmap_layout.h"
#include "bitmap_support.h"
#include "device/sync_io.h"
#include "simulated_disk.h"
#include "simulated_storage.h"
#include "tracking/checkpoint.h"
#include "tracking/tracked_device_impl.h"

namespace tidemark::simulation {

struct Replica {
  std::map<uint64_t, BlockContent> content;  // none: zeroes
  std::map<uint64_t, BlockContent> staging;

  BlockContent block(uint64_t index) const {
    const auto found = content.find(index);
    return found == content.end() ? BlockContent{} : found->second;
  }
  // A first copy of a wide disk is zeroes nearly everywhere; each crash copies the rest.
  void take(const std::map<uint64_t, BlockContent>& blocks) {
    for (const auto& [index, sectors] : blocks) {
      if (sectors == BlockContent{}) {
        content.erase(index);
      } else {
        content[index] = sectors;
      }
    }
  }
};

struct UuidLess {
  bool operator()(const Uuid& a, const Uuid& b) const { return a.bytes < b.bytes; }
};
using Replicas = std::map<Uuid, Replica, UuidLess>;

inline Uuid target_id(uint64_t index) {
  Uuid id = kReplicaA;
  id.bytes[15] = static_cast<uint8_t>(index + 1);
  return id;
}

// Empty, or the block for which the bitmap lies.
inline std::string find_lie(const DirtyBitmap& bitmap, const SimulatedDisk& disk,
                            const Replicas& replicas) {
  for (const auto& target : bitmap.targets()) {
    const auto found = replicas.find(target.id);
    if (found == replicas.end()) continue;
    const Replica& replica = found->second;
    std::set<uint64_t> blocks = disk.touched_blocks();
    for (const auto& [block, content] : replica.content) blocks.insert(block);
    for (const auto& [block, content] : replica.staging) blocks.insert(block);
    for (const uint64_t block : blocks) {
      if (block >= bitmap.block_count()) continue;
      bool is_marked = false;
      for (const MapId map : {MapId::live(), MapId::closed(), MapId::pending(target.slot),
                              MapId::in_flight(target.slot), MapId::suspect(target.slot)}) {
        is_marked = is_marked || bitmap.is_dirty(map, block);
      }
      if (is_marked) continue;
      const BlockContent content = disk.block(block);
      const bool is_staged = bitmap.is_dirty(MapId::staged(target.slot), block);
      const auto staged = replica.staging.find(block);
      const bool has_staged = staged != replica.staging.end();
      if (is_staged && (!has_staged || staged->second == content)) continue;
      const bool would_change = has_staged && staged->second != content;
      if (!is_staged && !would_change && replica.block(block) == content) continue;
      return "block " + std::to_string(block) + " differs from the replica in slot " +
             std::to_string(target.slot) + (is_staged ? ", is only staged" : "") +
             " and is marked nowhere";
    }
  }
  return {};
}

// One write-class request of the guest, alive until it is answered.
class GuestRequest {
 public:
  GuestRequest(IoOp op, uint64_t offset_bytes, uint64_t length_bytes, uint64_t value,
               uint32_t flags = 0)
      : buffer_(op == IoOp::kWrite ? length_bytes : 0) {
    for (uint64_t at = 0; at < buffer_.size(); at += sizeof value) {
      std::memcpy(&buffer_[at], &value, sizeof value);
    }
    request_.op = op;
    request_.flags = flags;
    request_.offset_bytes = offset_bytes;
    request_.length_bytes = length_bytes;
    if (op == IoOp::kWrite) request_.data = buffer_.data();
  }
  void submit(BlockDevice& device) {
    request_.push([](IoRequest&, void* context, uint64_t,
                     int) noexcept { static_cast<GuestRequest*>(context)->is_done = true; },
                  this);
    device.submit(request_);
  }
  bool is_done = false;

 private:
  std::vector<std::byte> buffer_;
  IoRequest request_;
};

class CrashWorld {
 public:
  CrashWorld(uint64_t disk_size_bytes, Durability durability, uint64_t seed)
      : random(seed),
        storage(std::make_unique<SimulatedStorage>()),
        disk(std::make_shared<SimulatedDisk>(disk_size_bytes)),
        durability_(durability) {
    storage->only_written_until = kBitmapMapsOffsetBytes;
    storage->timeless_word_at = kHeartbeatAt;
    auto made = DirtyBitmap::create("b", {kDisk, disk_size_bytes, 4096, durability}, *storage);
    require_ok(made.status());
    use(std::move(made).value());
  }
  // What a crash left.
  CrashWorld(std::unique_ptr<SimulatedStorage> left_storage,
             std::shared_ptr<SimulatedDisk> left_disk, Replicas left_replicas,
             Durability durability, uint64_t seed)
      : random(seed),
        storage(std::move(left_storage)),
        disk(std::move(left_disk)),
        replicas(std::move(left_replicas)),
        durability_(durability) {}
  ~CrashWorld() { give_up(); }
  CrashWorld(const CrashWorld&) = delete;
  CrashWorld& operator=(const CrashWorld&) = delete;

  Status open() {
    auto opened = DirtyBitmap::open("b", kDisk, disk->size_bytes(), *storage, durability_);
    if (!opened.is_ok()) return opened.status();
    use(std::move(opened).value());
    return Status::ok();
  }
  // As its owner does, whether or not the disk can be flushed.
  Status close_and_open() {
    cuts.clear();
    settle();
    (void)device->settle();
    device.reset();
    (void)bitmap->close();
    bitmap.reset();
    return open();
  }
  Durability durability() const { return durability_; }
  // The mode of every open from now on; the bitmap that is open keeps its own.
  void set_durability(Durability durability) { durability_ = durability; }
  // A round of the quiet-down, where it would not wait for a request that is held.
  void quiet_down() {
    if (disk->held_count() > 0) return;
    device->impl().quiet_down().run_round();
    work();
  }

  // -- The guest ---------------------------------------------------------------
  void request(IoOp op, uint64_t offset_bytes, uint64_t length_bytes, uint32_t flags = 0) {
    requests.push_back(
        std::make_unique<GuestRequest>(op, offset_bytes, length_bytes, ++last_value, flags));
    requests.back()->submit(*device);
    work();
    forget_answered();
  }
  void forget_answered() {
    std::erase_if(requests, [](const auto& one) { return one->is_done; });
  }
  void let_go() {
    if (disk->held_count() > 0) disk->let_go(random() % disk->held_count());
    work();
    forget_answered();
  }
  // Everything that is held is answered.
  void settle() {
    while (disk->held_count() > 0) let_go();
  }

  // -- The cycles --------------------------------------------------------------
  std::optional<uint32_t> slot(uint64_t target) const {
    return bitmap->find_target(target_id(target));
  }

  void add_target(uint64_t target, TargetStart start) {
    if (slot(target)) return;
    Replica& replica = replicas[target_id(target)];
    replica = {};
    if (start == TargetStart::kNothing) {
      for (const uint64_t block : disk->touched_blocks())
        replica.content[block] = disk->block(block);
    }
    (void)device->add_target(target_id(target), start);
  }
  void remove_target(uint64_t target) {
    if (!slot(target)) return;
    drop_capture(target);
    (void)device->remove_target(*slot(target));
  }
  void checkpoint(uint64_t target) {
    if (!slot(target) || cuts.count(target) != 0) return;
    if (is_occupied(target)) (void)device->give_back(*slot(target));
    const CheckpointMember member{device, *slot(target), {}};
    CheckpointOptions options;
    options.drain_limit = std::chrono::milliseconds(0);
    auto outcome = take_checkpoint({&member, 1}, options);
    if (!outcome.is_ok()) return;
    cuts[target].capture = outcome.value().captures.at(0);
    remember_cut(target);
  }
  void read_cut(uint64_t target) {
    const auto cut = cuts.find(target);
    if (cut == cuts.end() || cut->second.is_read) return;
    if (!read(*cut->second.capture, cut->second.delta)) return drop_capture(target);
    cut->second.is_read = true;
    for (const auto& [block, content] : cut->second.delta) {
      if (content != cut->second.expected[block]) finding = "a capture is newer than its cut";
    }
  }
  void commit(uint64_t target, bool is_early) {
    const auto cut = cuts.find(target);
    if (cut == cuts.end() || !cut->second.is_read) return;
    cut->second.capture->close();
    if (is_early) {
      (void)device->commit(*slot(target));
      if (on_replica_changed) on_replica_changed();
    }
    Replica& replica = replicas[target_id(target)];
    replica.take(replica.staging);
    replica.take(cut->second.delta);
    replica.staging.clear();
    cuts.erase(cut);
    if (on_replica_changed) on_replica_changed();
    if (!is_early) (void)device->commit(*slot(target));
  }
  void give_back(uint64_t target) {
    drop_capture(target);
    if (slot(target)) (void)device->give_back(*slot(target));
  }
  // A pass of a drain: some of what is pending, as it is now, into the staging session.
  void drain(uint64_t target) {
    if (!slot(target) || cuts.count(target) != 0) return;
    if (is_occupied(target)) (void)device->give_back(*slot(target));
    const CheckpointMember member{device, *slot(target), {}};
    CheckpointOptions options;
    options.drain_limit = std::chrono::milliseconds(0);
    options.with_captures = false;
    options.limit_bytes = (1 + random() % 3) * kBlockBytes;
    auto outcome = take_checkpoint({&member, 1}, options);
    if (!outcome.is_ok()) return;
    std::map<uint64_t, BlockContent> content;
    const bool is_read = read(*outcome.value().captures.at(0), content);
    outcome.value().captures.at(0)->close();
    if (!is_read) return;
    for (const auto& [block, sectors] : content) {
      replicas[target_id(target)].staging[block] = sectors;
    }
    if (on_replica_changed) on_replica_changed();
    (void)device->stage(*slot(target));
  }
  // The replica cannot show the session any more.
  void lose_staging(uint64_t target) {
    if (!slot(target)) return;
    replicas[target_id(target)].staging.clear();
    (void)device->unstage(*slot(target));
  }

  std::string lie() const { return find_lie(*bitmap, *disk, replicas); }

  Random random;
  std::unique_ptr<SimulatedStorage> storage;
  std::shared_ptr<SimulatedDisk> disk;
  Replicas replicas;
  std::shared_ptr<DirtyBitmap> bitmap;
  std::shared_ptr<TrackedDevice> device;
  std::function<void()> on_replica_changed;
  std::string finding;
  uint64_t last_value = 0;

 private:
  // No thread but this one: the log's work is done when something waits for it.
  void use(std::shared_ptr<DirtyBitmap> opened) {
    bitmap = std::move(opened);
    device = std::make_shared<TrackedDevice>(disk, bitmap, std::chrono::milliseconds(0));
  }
  void work() { bitmap->intents().work(); }

  struct Cut {
    std::shared_ptr<Capture> capture;
    std::map<uint64_t, BlockContent> delta;
    bool is_read = false;
    std::map<uint64_t, BlockContent> expected;
  };

  bool is_occupied(uint64_t target) const {
    return bitmap->next_extent(MapId::in_flight(*slot(target)), 0, UINT64_MAX).has_value();
  }
  void remember_cut(uint64_t target) {
    Cut& cut = cuts[target];
    for_each_block(*cut.capture, [&](uint64_t block) { cut.expected[block] = disk->block(block); });
  }
  void drop_capture(uint64_t target) {
    const auto cut = cuts.find(target);
    if (cut == cuts.end()) return;
    cut->second.capture->close();
    cuts.erase(cut);
  }
  template <typename Body>
  static void for_each_block(const Capture& capture, Body body) {
    for (uint64_t from = 0; const auto extent = capture.next_extent(from, UINT64_MAX);) {
      const uint64_t end = extent->offset_bytes + extent->length_bytes;
      for (uint64_t at = extent->offset_bytes; at < end; at += kBlockBytes) body(at / kBlockBytes);
      from = end;
    }
  }
  // False where the capture is broken or the disk fails.
  static bool read(Capture& capture, std::map<uint64_t, BlockContent>& into) {
    bool is_good = true;
    for_each_block(capture, [&](uint64_t block) {
      std::vector<std::byte> bytes(
          std::min(kBlockBytes, capture.disk_size_bytes() - block * kBlockBytes));
      is_good = is_good && capture.read(block * kBlockBytes, bytes).is_ok();
      for (uint64_t i = 0; i < bytes.size() / kSectorBytes; ++i) {
        std::memcpy(&into[block][i], &bytes[i * kSectorBytes], sizeof(uint64_t));
      }
    });
    return is_good;
  }
  // As a process that ends: what it had under way is answered to nobody.
  void give_up() {
    disk->on_step = nullptr;
    storage->on_step = nullptr;
    if (device != nullptr) settle();
    cuts.clear();
    device.reset();
    bitmap.reset();
  }

  Durability durability_;
  std::map<uint64_t, Cut> cuts;
  std::vector<std::unique_ptr<GuestRequest>> requests;
};

}  // namespace tidemark::simulation
