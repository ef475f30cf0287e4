// The bitmap against a model of bool vectors, with seeded random operations.
#include <map>
#include <optional>
#include <random>
#include <sstream>

#include "bitmap_support.h"

using namespace tidemark;

namespace {

using Bits = std::vector<bool>;

void merge(Bits& into, const Bits& from) {
  for (size_t i = 0; i < from.size(); ++i) into[i] = into[i] || from[i];
}

void move_all(Bits& from, Bits& into) {
  merge(into, from);
  from.assign(from.size(), false);
}

// What the header of DirtyBitmap promises, in the most naive way: ranges are
// decided byte range by byte range, without shifts or masks.
struct Model {
  struct Slot {
    Uuid id;
    Bits pending, in_flight, staged, suspect;
  };

  Model(uint64_t disk_size_bytes, uint64_t granularity_bytes)
      : size(disk_size_bytes), granularity(granularity_bytes) {
    live = closed = empty();
  }

  Bits empty() const { return Bits((size + granularity - 1) / granularity); }
  uint64_t start_of(uint64_t block) const { return block * granularity; }
  uint64_t end_of(uint64_t block) const { return std::min(size, (block + 1) * granularity); }

  void mark(Bits& bits, uint64_t offset, uint64_t length) const {
    for (uint64_t block = 0; block < bits.size(); ++block) {
      if (start_of(block) < offset + length && end_of(block) > offset && length > 0) {
        bits[block] = true;
      }
    }
  }
  void clear(Bits& bits, uint64_t offset, uint64_t length) const {
    for (uint64_t block = 0; block < bits.size(); ++block) {
      if (start_of(block) >= offset && end_of(block) <= offset + length) bits[block] = false;
    }
  }
  void merge_closed() {
    if (slots.empty()) merge(live, closed);
    for (auto& [index, slot] : slots) merge(slot.pending, closed);
    closed = empty();
  }
  void reopen_unclean() {
    merge_closed();
    if (slots.empty()) return;
    for (auto& [index, slot] : slots) {
      merge(slot.pending, live);
      move_all(slot.in_flight, slot.pending);
    }
    live = empty();
  }

  uint64_t size, granularity;
  Bits live, closed;
  std::map<uint32_t, Slot> slots;
};

// The first difference between a map and its model, through all three readers.
std::string difference(const DirtyBitmap& bitmap, MapId map, const Bits& expected,
                       uint64_t max_bytes) {
  std::ostringstream text;
  Bits extents(expected.size());
  uint64_t from = 0;
  while (const auto extent = bitmap.next_extent(map, from, max_bytes)) {
    const uint64_t end = extent->offset_bytes + extent->length_bytes;
    const bool orderly = extent->offset_bytes >= from && extent->length_bytes > 0 &&
                         extent->length_bytes <= max_bytes && end <= bitmap.disk_size_bytes();
    if (!orderly) return "an extent out of order";
    for (uint64_t at = extent->offset_bytes; at < end; at += bitmap.granularity_bytes()) {
      extents[at / bitmap.granularity_bytes()] = true;
    }
    extents[(end - 1) / bitmap.granularity_bytes()] = true;
    from = end;
  }
  uint64_t count = 0;
  for (uint64_t block = 0; block < expected.size(); ++block) {
    count += expected[block] ? 1 : 0;
    if (bitmap.is_dirty(map, block) != expected[block]) text << "block " << block << " differs; ";
    if (extents[block] != expected[block]) text << "extents differ at " << block << "; ";
    if (!text.str().empty()) return text.str();
  }
  if (bitmap.dirty_block_count(map) != count) text << "the count differs";
  return text.str();
}

enum class Fault { kNone, kLosesSomeMarks, kClearsOutward, kForgetsGiveBack, kForgetsSuspects };

struct Shape {
  uint64_t disk_size_bytes;
  uint32_t granularity_bytes;
};

class Run {
 public:
  Run(const Shape& shape, uint64_t seed, Fault fault)
      : shape_(shape),
        fault_(fault),
        random_(seed),
        model_(shape.disk_size_bytes, shape.granularity_bytes),
        path_(directory_.file("b")),
        bitmap_(create_bitmap(path_, shape.disk_size_bytes, shape.granularity_bytes)) {}

  // Empty when bitmap and model agreed all the way.
  std::string operator()(int operation_count) {
    const bool large = model_.live.size() > 5000;
    for (int i = 0; i < operation_count; ++i) {
      const std::string name = step();
      if (large && i % 8 != 0 && i + 1 != operation_count) continue;
      const std::string found = compare();
      if (!found.empty()) return "operation " + std::to_string(i) + " (" + name + "): " + found;
    }
    return {};
  }

 private:
  uint64_t below(uint64_t limit) { return random_() % limit; }

  // Short, long, aligned, at the very end or beyond it.
  std::pair<uint64_t, uint64_t> range() {
    const uint64_t size = shape_.disk_size_bytes;
    const uint64_t offset = below(size);
    switch (below(6)) {
      case 0:
        return {offset, size - offset};
      case 1:
        return {offset, below(3 * size)};
      case 2:
        return {offset / 4096 * 4096, (1 + below(64)) * 4096};
      case 3:
        return {size - 1 - below(std::min<uint64_t>(size, 5000)), below(9000)};
      case 4:
        return {offset, below(2)};
      default:
        return {offset, below(shape_.granularity_bytes * 3)};
    }
  }

  std::string compare() {
    const uint64_t max_bytes = below(2) ? UINT64_MAX : (1 + below(200)) * shape_.granularity_bytes;
    const auto check = [&](const char* name, MapId map, const Bits& bits) -> std::string {
      const std::string found = difference(*bitmap_, map, bits, max_bytes);
      return found.empty() ? found : name + (": " + found);
    };
    std::string found =
        check("live", MapId::live(), model_.live) + check("closed", MapId::closed(), model_.closed);
    if (bitmap_->targets().size() != model_.slots.size()) found += "targets differ";
    for (const auto& [index, slot] : model_.slots) {
      if (bitmap_->find_target(slot.id) != index) found += "a target is not found";
      found += check("pending", MapId::pending(index), slot.pending);
      found += check("in-flight", MapId::in_flight(index), slot.in_flight);
      found += check("staged", MapId::staged(index), slot.staged);
      found += check("suspect", MapId::suspect(index), slot.suspect);
    }
    return found;
  }

  std::string step() {
    const uint64_t roll = below(100);
    if (roll < 30) return mark();
    if (roll < 42) return flip_and_merge();
    if (roll < 46) return add();
    if (roll < 50) return reopen();
    if (model_.slots.empty()) return add();
    auto at = model_.slots.begin();
    std::advance(at, static_cast<long>(below(model_.slots.size())));
    if (roll < 51) return remove(at->first);
    if (roll < 62) return edit_pending(at->first, at->second);
    return roll < 70 ? suspect(at->first, at->second) : move(at->first, at->second);
  }

  std::string mark() {
    const auto [offset, length] = range();
    model_.mark(model_.live, offset, length);
    if (fault_ != Fault::kLosesSomeMarks || below(20) != 0) bitmap_->mark(offset, length);
    return "mark";
  }

  std::string flip_and_merge() {
    bitmap_->flip();
    std::swap(model_.live, model_.closed);
    if (below(4) == 0) mark();
    if (below(8) == 0) return reopen();
    require_ok(bitmap_->merge_closed());
    model_.merge_closed();
    return "flip";
  }

  std::string add() {
    const Uuid id = Uuid::random();
    const auto slot = bitmap_->add_target(id);
    if (slot.is_ok()) {
      model_.slots[slot.value()] = {id, model_.empty(), model_.empty(), model_.empty(),
                                    model_.empty()};
    } else {
      CHECK(slot.status().code() == ErrorCode::kLimitReached);
      CHECK(model_.slots.size() == kMaxTargets);
    }
    return "add_target";
  }

  std::string remove(uint32_t index) {
    require_ok(bitmap_->remove_target(index));
    model_.slots.erase(index);
    return "remove_target";
  }

  std::string edit_pending(uint32_t index, Model::Slot& slot) {
    const auto [offset, length] = range();
    if (below(2) == 0) {
      bitmap_->mark_pending(index, offset, length);
      model_.mark(slot.pending, offset, length);
      return "mark_pending";
    }
    const uint64_t slack = fault_ == Fault::kClearsOutward ? shape_.granularity_bytes - 1 : 0;
    bitmap_->clear_pending(index, offset, length + slack);
    model_.clear(slot.pending, offset, length);
    return "clear_pending";
  }

  std::string suspect(uint32_t index, Model::Slot& slot) {
    const auto [offset, length] = range();
    switch (below(4)) {
      case 0:
      case 1:
        require_ok(bitmap_->mark_suspect(index, offset, length, SuspicionCause::kModified));
        model_.mark(slot.suspect, offset, length);
        return "mark_suspect";
      case 2:
        bitmap_->clear_suspect(index, offset, length);
        model_.clear(slot.suspect, offset, length);
        return "clear_suspect";
      default: {
        if (fault_ == Fault::kForgetsSuspects) {
          bitmap_->clear_suspect(index, offset / 4096 * 4096, length);
        } else {
          require_ok(bitmap_->suspect_to_pending(index, offset, length));
        }
        Bits settled = model_.empty();
        model_.mark(settled, offset, length);
        for (size_t i = 0; i < settled.size(); ++i) {
          slot.pending[i] = slot.pending[i] || (settled[i] && slot.suspect[i]);
          slot.suspect[i] = slot.suspect[i] && !settled[i];
        }
        return "suspect_to_pending";
      }
    }
  }

  std::string move(uint32_t index, Model::Slot& slot) {
    switch (below(5)) {
      case 0:
        require_ok(bitmap_->take_pending(index));
        move_all(slot.pending, slot.in_flight);
        return "take_pending";
      case 1:
        require_ok(fault_ == Fault::kForgetsGiveBack ? bitmap_->commit(index)
                                                     : bitmap_->give_back(index));
        move_all(slot.in_flight, slot.pending);
        return "give_back";
      case 2:
        require_ok(bitmap_->stage(index));
        move_all(slot.in_flight, slot.staged);
        return "stage";
      case 3:
        require_ok(bitmap_->unstage(index));
        move_all(slot.staged, slot.pending);
        return "unstage";
      default:
        require_ok(bitmap_->commit(index));
        slot.in_flight = slot.staged = model_.empty();
        return "commit";
    }
  }

  std::string reopen() {
    const bool clean = below(2) == 0;
    if (clean) require_ok(bitmap_->close());
    bitmap_.reset();
    bitmap_ = open_bitmap(path_, shape_.disk_size_bytes);
    CHECK(bitmap_->opened_clean() == clean);
    if (clean) {
      model_.merge_closed();
    } else {
      model_.reopen_unclean();
    }
    return clean ? "reopen after close" : "reopen after a crash";
  }

  const Shape shape_;
  const Fault fault_;
  std::mt19937_64 random_;
  TempDirectory directory_{memory_directory()};
  Model model_;
  const std::string path_;
  BitmapPtr bitmap_;
};

constexpr Shape kShapes[] = {
    {1, 4096},
    {4095, 4096},
    {4097, 4096},
    {64 * 4096, 4096},
    {512 * 4096 + 1, 4096},
    {1000 * 8192 - 5, 8192},
    {4096 * 65536 - 65535, 65536},
    {40'000ULL * 4096 + 3, 4096},  // more than one page of bits
};

}  // namespace

TEST_CASE("the bitmap and a naive model agree over random operations, sizes and seeds") {
  for (const Shape& shape : kShapes) {
    const bool large = shape.disk_size_bytes / shape.granularity_bytes > 5000;
    for (uint64_t seed = 1; seed <= (large ? 2 : 10); ++seed) {
      CAPTURE(shape.disk_size_bytes);
      CAPTURE(seed);
      CHECK(Run(shape, seed, Fault::kNone)(large ? 100 : 250) == "");
    }
  }
}

TEST_CASE("the comparison with the model notices planted faults") {
  const Shape shape{512 * 4096 + 1, 4096};
  for (const Fault fault : {Fault::kLosesSomeMarks, Fault::kClearsOutward, Fault::kForgetsGiveBack,
                            Fault::kForgetsSuspects}) {
    int noticed = 0;
    for (uint64_t seed = 1; seed <= 5; ++seed) noticed += Run(shape, seed, fault)(2000) != "";
    CHECK(noticed == 5);
  }
}
