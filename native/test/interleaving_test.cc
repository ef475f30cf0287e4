// T7 and T17, exhaustively: every order of the steps of two writers and a cycle over
// two blocks, on the real gate, bitmap, device and capture; and each fault that one
// could make there is found.
#include "interleaving.h"

#include <cstdlib>

#include "tracking/checkpoint.h"

using namespace tidemark;
using namespace tidemark::simulation;

namespace {

bool is_soak() { return std::getenv("TIDEMARK_SOAK") != nullptr; }

// Block 1 is dirty when the cut comes, block 0 only if a writer was before it.
void cut_among_writes(Interleaving& one) {
  one.begin_dirty(1, 11);
  one.disk().is_split = false;
  one.add_writer(IoOp::kWrite, 0, 1, 100);
  one.add_writer(IoOp::kWrite, 0, 2, 200);
  one.add_cycle(false);
}

void cut_among_a_write_and_a_trim(Interleaving& one) {
  one.begin_dirty(0, 10);
  one.disk().is_split = false;
  one.add_writer(IoOp::kTrim, 0, 1, 0);
  one.add_writer(IoOp::kWrite, 1, 1, 200);
  one.add_cycle(false);
}

// Both blocks are in the capture; its reader is interrupted between fetch and look.
void read_among_writes(Interleaving& one) {
  one.begin_dirty(0, 10);
  one.begin_dirty(1, 11);
  one.disk().is_split = false;
  one.pauses_at_mark = is_soak();
  one.add_writer(IoOp::kWrite, 0, 2, 100);
  one.add_writer(IoOp::kWriteZeroes, 0, 1, 0);
  one.add_reader();
}

void read_among_steps_of_a_write(Interleaving& one) {
  one.begin_dirty(0, 10);
  one.begin_dirty(1, 11);
  one.add_writer(IoOp::kWrite, 0, 2, 100);
  one.add_reader();
}

void read_of_one_block_among_steps_of_two_writes(Interleaving& one) {
  one.begin_dirty(0, 10);
  one.pauses_at_mark = false;
  one.add_writer(IoOp::kWrite, 0, 1, 100);
  one.add_writer(IoOp::kWrite, 0, 2, 200);
  one.add_reader();
}

void check_every_order(const char* name, const std::function<void(Interleaving&)>& scene) {
  const Exploration result = explore(Fault::kNone, scene);
  CHECK(result.finding == "");
  MESSAGE(std::string(name), ": ", result.order_count, " orders, all of them");
  CHECK(result.order_count > 100);
}

std::string found(Fault fault, const std::function<void(Interleaving&)>& scene) {
  return explore(fault, scene).finding;
}

}  // namespace

TEST_CASE("T7: every order of two writes and a cut") {
  check_every_order("two writes", cut_among_writes);
  check_every_order("a write and a trim", cut_among_a_write_and_a_trim);
}

TEST_CASE("T17: every order of two writes and a capture's reader") {
  check_every_order("two requests, two blocks", read_among_writes);
  check_every_order("one request, each of its steps", read_among_steps_of_a_write);
  if (is_soak()) {
    check_every_order("two requests, each of their steps",
                      read_of_one_block_among_steps_of_two_writes);
  }
}

TEST_CASE("T17: a write that saves nothing before it is found") {
  CHECK(found(Fault::kNoCopy, read_among_writes).find("not that of the cut") != std::string::npos);
}

TEST_CASE("T7: a mark after its write is found") {
  CHECK(found(Fault::kLateMark, cut_among_writes).find("not in the capture") != std::string::npos);
}

TEST_CASE("T7: a write that the gate does not count is found") {
  CHECK(found(Fault::kNotCounted, cut_among_writes) != "");
}

TEST_CASE("T7: a cut that does not wait for writes under way is found") {
  CHECK(found(Fault::kNoDrain, cut_among_writes) != "");
}

TEST_CASE("T17: a block that is released before it was read is found") {
  CHECK(found(Fault::kEarlyRelease, read_among_writes).find("not that of the cut") !=
        std::string::npos);
}

namespace {

std::vector<std::string>& passed() {
  static std::vector<std::string> names;
  return names;
}

std::vector<std::string> names_passed(const std::function<void()>& body) {
  passed().clear();
  observe_failpoints([](std::string_view name) noexcept { passed().emplace_back(name); });
  body();
  observe_failpoints(nullptr);
  std::erase(passed(), "flip");  // the checkpoint's own, the bitmap's follows
  return passed();
}

}  // namespace

TEST_CASE("the checker's cut passes what take_checkpoint() passes, in that order") {
  Interleaving one(Fault::kNone);
  one.begin_dirty(1, 11);
  const auto by_checker = names_passed([&] { one.add_reader(); });
  SimulatedStorage storage;
  auto disk = std::make_shared<SteppedDisk>(2);
  auto made = DirtyBitmap::create("b", {kDisk, disk->size_bytes(), 4096}, storage);
  require_ok(made.status());
  const std::shared_ptr<DirtyBitmap> bitmap = std::move(made).value();
  const auto device = std::make_shared<TrackedDevice>(disk, bitmap, std::chrono::milliseconds(0));
  const uint32_t slot = device->add_target(kReplicaA).value();
  bitmap->mark(4096, 4096);
  const auto by_checkpoint = names_passed([&] {
    const CheckpointMember member{device, slot, {}};
    require_ok(take_checkpoint({&member, 1}, {}).status());
  });
  CHECK(by_checkpoint.size() >= 3);
  CHECK(by_checker == by_checkpoint);
}
