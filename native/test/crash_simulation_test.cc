// The deterministic simulator: a tracked disk, its checkpoints and captures, over
// storage and a disk that lose what was not made durable. docs/simulation.md.
#include "crash_scripts.h"
#include "simulation_settings.h"

using namespace tidemark;
using namespace tidemark::simulation;

namespace {

using Kind = GuestOperation::Kind;

void check_all(const char* name, const Script& guest, const Script& cycle) {
  CrashSettings settings;
  settings.crashes_again = std::getenv("TIDEMARK_SOAK") != nullptr;
  settings.torn_count = settings.crashes_again ? 6 : 1;
  for (const Durability durability : {Durability::kPowerSafe, Durability::kProcessSafe}) {
    const Outcome outcome = run_all(guest, cycle, settings, {}, durability);
    CHECK(outcome.finding == "");
    MESSAGE(std::string(name), ": ", outcome.schedule_count, " schedules, ", outcome.image_count,
            " crashes");
    CHECK(outcome.image_count > outcome.schedule_count * 15);
  }
}

struct Oftenness {
  Kind kind;
  uint64_t in_64;
};
constexpr Oftenness kOftenness[] = {
    {Kind::kWrite, 8},      {Kind::kHeldWrite, 4}, {Kind::kLetGo, 6},       {Kind::kTrim, 1},
    {Kind::kZero, 1},       {Kind::kFlush, 5},     {Kind::kRead, 4},        {Kind::kCheckpoint, 4},
    {Kind::kCommit, 4},     {Kind::kGiveBack, 2},  {Kind::kDrain, 4},       {Kind::kLoseStaging, 1},
    {Kind::kAddEmpty, 1},   {Kind::kAddEqual, 1},  {Kind::kRemove, 1},      {Kind::kReopen, 1},
    {Kind::kQuietDown, 12}, {Kind::kPowerSafe, 2}, {Kind::kProcessSafe, 2},
};

Kind any_kind(Random& random) {
  uint64_t left = random() % 64;
  for (const Oftenness& oftenness : kOftenness) {
    if (left < oftenness.in_64) return oftenness.kind;
    left -= oftenness.in_64;
  }
  return Kind::kQuietDown;
}

bool acts_on_blocks(Kind kind) {
  return kind == Kind::kWrite || kind == Kind::kHeldWrite || kind == Kind::kTrim ||
         kind == Kind::kZero;
}

GuestOperation any_operation(Random& random, uint64_t block_count) {
  const Kind kind = any_kind(random);
  if (!acts_on_blocks(kind)) return {kind, random() % 3};
  // In the first, the middle and the last of a wide disk's regions.
  const uint64_t places[] = {0, block_count / 2, block_count - 3};
  const uint64_t block = places[random() % 3] + random() % 3;
  return {kind, block, kind == Kind::kHeldWrite ? 1 : 1 + random() % 2};
}

// Empty, or what was found: operations, crashes and faults as the seed has them.
std::string random_run(uint64_t seed, size_t length, uint64_t fault_one_in,
                       uint64_t* image_count = nullptr) {
  Random random(seed);
  const uint64_t size_bytes = random() % 2 == 0 ? kWideDisk : kSmallDisk;
  const Durability durability =
      random() % 4 == 0 ? Durability::kProcessSafe : Durability::kPowerSafe;
  CrashSettings settings;
  settings.one_step_in = 8;
  settings.crashes_again = random() % 8 == 0;
  settings.again_one_in = 8;
  settings.fault_one_in = fault_one_in;
  CrashExplorer explorer(world_with(size_bytes, random() % 4, durability, random()), settings,
                         random());
  explorer.world().disk->set_trim_reads_zero(random() % 2 == 0);
  explorer.world().storage->failed_syncs_drop = random() % 2 == 0;
  for (size_t i = 0; i < length; ++i) {
    const uint64_t block_count = (size_bytes + kBlockBytes - 1) / kBlockBytes;
    if (!explorer.run(any_operation(random, block_count))) return explorer.finding();
    if (random() % 40 == 0 && !explorer.crash_into(random() % 2 == 0)) return explorer.finding();
  }
  if (image_count != nullptr) *image_count += explorer.image_count();
  return {};
}

// The power goes while what a process-safe process left is opened power-safe.
const Script kOtherMode{{Kind::kProcessSafe},   {Kind::kReopen},    {Kind::kWrite, 0},
                        {Kind::kCheckpoint, 0}, {Kind::kRead, 0},   {Kind::kCommit, 0},
                        {Kind::kAddEmpty, 1},   {Kind::kPowerSafe}, {Kind::kReopen}};
const Script kTwoWrites{{Kind::kWrite, 0}, {Kind::kFlush}, {Kind::kWrite, 7}, {Kind::kFlush}};

}  // namespace

TEST_CASE("T1 T3: every step of every schedule of writes and a cycle, killed and without power") {
  check_all("a cycle that commits", kTwoWrites,
            {{Kind::kCheckpoint, 0}, {Kind::kRead, 0}, {Kind::kCommit, 0}});
  check_all("a cycle that is given back", kTwoWrites,
            {{Kind::kCheckpoint, 0}, {Kind::kRead, 0}, {Kind::kGiveBack, 0}});
}

TEST_CASE("T6 T7: every step of every schedule of held writes and two targets' cycles") {
  check_all("writes in flight",
            {{Kind::kHeldWrite, 0}, {Kind::kLetGo}, {Kind::kHeldWrite, 0}, {Kind::kLetGo}},
            {{Kind::kCheckpoint, 0}, {Kind::kCheckpoint, 1}, {Kind::kRead, 0}, {Kind::kCommit, 0}});
}

TEST_CASE("T31: every step of every schedule of writes and a drain that closes") {
  check_all("a drain", {{Kind::kWrite, 0}, {Kind::kTrim, 0}, {Kind::kZero, 1, 2}},
            {{Kind::kDrain, 0},
             {Kind::kDrain, 0},
             {Kind::kCheckpoint, 0},
             {Kind::kRead, 0},
             {Kind::kCommit, 0}});
  check_all("a drain whose session is lost", {{Kind::kWrite, 0}, {Kind::kWrite, 0}},
            {{Kind::kDrain, 0}, {Kind::kLoseStaging, 0}, {Kind::kCheckpoint, 0}});
}

TEST_CASE("T4: every step of every schedule of writes, a restart, and targets that come and go") {
  check_all("a restart", kTwoWrites, {{Kind::kReopen}, {Kind::kCheckpoint, 0}});
  check_all("targets", {{Kind::kWrite, 0}, {Kind::kFlush}},
            {{Kind::kAddEmpty, 2}, {Kind::kRemove, 1}, {Kind::kAddEqual, 1}});
}

TEST_CASE("T1 to T7: random workloads, crashed, restarted and crashed again") {
  uint64_t images = 0;
  for_each_seed(6, 6'000, [&](uint64_t seed) { CHECK(random_run(seed, 120, 0, &images) == ""); });
  MESSAGE(images, " crashes");
}

TEST_CASE("T1 T2: every step of every schedule of writes and opens in the other mode") {
  CrashSettings settings;
  settings.crashes_again = true;
  const bool is_soak = std::getenv("TIDEMARK_SOAK") != nullptr;
  settings.torn_count = is_soak ? 8 : 1;
  settings.again_one_in = is_soak ? 1 : 8;
  for (const Script& guest : {Script{{Kind::kWrite, 7}}, Script{{Kind::kQuietDown}}}) {
    const Outcome outcome = run_all(guest, kOtherMode, settings);
    CHECK(outcome.finding == "");
    MESSAGE("modes: ", outcome.schedule_count, " schedules, ", outcome.image_count, " crashes");
  }
}

TEST_CASE("T5: random workloads on storage and disks that fail") {
  for_each_seed(6, 6'000, [&](uint64_t seed) { CHECK(random_run(seed, 120, 25) == ""); });
}

TEST_CASE("T1 T2: every step of every schedule of writes and a disk that becomes quiet") {
  check_all("quiet-downs", {{Kind::kWrite, 0}, {Kind::kWrite, 0}, {Kind::kFlush}},
            {{Kind::kQuietDown}, {Kind::kQuietDown}, {Kind::kQuietDown}});
  check_all("a cycle and quiet-downs",
            {{Kind::kCheckpoint, 0}, {Kind::kRead, 0}, {Kind::kCommit, 0}},
            {{Kind::kWrite, 0}, {Kind::kQuietDown}, {Kind::kQuietDown}});
}

// Each removes one thing that the order of design section 4 needs; the maps' own
// moves are in map_crash_test.
namespace {

const Script kQuietly{{Kind::kQuietDown}, {Kind::kQuietDown}};
const Script kOneCycle{
    {Kind::kWrite, 0}, {Kind::kCheckpoint, 0}, {Kind::kRead, 0}, {Kind::kCommit, 0}};

void check_found(const Script& guest, const Script& cycle, const Wrong& wrong,
                 Durability durability = Durability::kPowerSafe) {
  CrashSettings settings;
  settings.torn_count = 40;
  CHECK(run_all(guest, cycle, settings, {}, durability).finding == "");
  const Outcome outcome = run_all(guest, cycle, settings, wrong, durability);
  CHECK(outcome.finding.find("marked nowhere") != std::string::npos);
}

CrashExplorer::Sabotage without(Kind kind, StorageOp op, uint64_t from_bytes, uint64_t to_bytes) {
  return [=](const StorageStep& step, Kind of_kind) {
    const bool is_it = of_kind == kind && step.op == op && step.offset_bytes >= from_bytes &&
                       step.offset_bytes < to_bytes;
    return is_it ? StepVerdict::kPretends : StepVerdict::kWorks;
  };
}

constexpr uint64_t kLogAt = 4096;
constexpr uint64_t kLiveAt = 256 << 10;
constexpr uint64_t kLiveEnd = kLiveAt + 2 * 4096;
constexpr uint64_t kSuspectAt = kLiveEnd + 3 * 4096;  // of the first slot

}  // namespace

TEST_CASE("mutation: a mark that comes after its write is found") {
  check_found(kTwoWrites, {{Kind::kCheckpoint, 0}}, {.marks_late = true});
}

TEST_CASE("mutation: bits that are cleared before the replica has the content are found") {
  check_found(kTwoWrites, {{Kind::kCheckpoint, 0}, {Kind::kRead, 0}, {Kind::kCommit, 0}},
              {.commits_early = true});
}

TEST_CASE("mutation: an intent that is not synced before its write is found") {
  check_found(kTwoWrites, {{Kind::kCheckpoint, 0}},
              {.sabotage = without(Kind::kWrite, StorageOp::kSync, kLogAt, kLiveAt)});
}

TEST_CASE("mutation: an intent that is not written before its write is found") {
  check_found(kTwoWrites, {{Kind::kCheckpoint, 0}},
              {.sabotage = without(Kind::kWrite, StorageOp::kWrite, kLogAt, kLiveAt)});
}

namespace {

// What a process-safe process left, the disk's content only in caches and its bits committed
// (durably: a target was added), is opened power-safe, and the power goes while it is.
std::string opened_power_safe(uint64_t seed, const CrashExplorer::Sabotage& sabotage) {
  CrashSettings settings;
  settings.one_step_in = UINT64_MAX;
  settings.torn_count = 20;
  settings.crashes_again = true;
  CrashExplorer explorer(world_with(kSmallDisk, 1, Durability::kPowerSafe, seed), settings, seed,
                         sabotage);
  for (const GuestOperation& operation : kOtherMode) {
    if (operation.kind == Kind::kPowerSafe) explorer.crash_here();
    explorer.run(operation);
    if (operation.kind == Kind::kPowerSafe) explorer.crash_here();
  }
  return explorer.finding();
}

}  // namespace

// Nothing else orders them: the page cache brings one sector to the disk before another.
TEST_CASE("mutation: a log that is exact before its marks are durable is found") {
  const auto sabotage = without(Kind::kReopen, StorageOp::kSync, kLogAt, kLiveAt);
  bool is_found = false;
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    CHECK(opened_power_safe(seed, {}) == "");
    is_found =
        is_found || opened_power_safe(seed, sabotage).find("marked nowhere") != std::string::npos;
  }
  CHECK(is_found);
}

TEST_CASE("mutation: a region that becomes quiet before the disk was flushed is found") {
  check_found(kOneCycle, kQuietly, {.quiets_without_flush = true});
}

TEST_CASE("mutation: a region that becomes quiet before its marks are durable is found") {
  check_found({{Kind::kWrite, 0}}, kQuietly,
              {.sabotage = without(Kind::kQuietDown, StorageOp::kSync, kLiveAt, kLiveEnd)});
}

namespace {

// A write whose mark is lost with the power; then the region becomes quiet.
std::string suspected_then_quiet(uint64_t seed, const CrashExplorer::Sabotage& sabotage) {
  CrashSettings settings;
  settings.torn_count = 8;
  CrashExplorer explorer(world_with(kSmallDisk, 2, Durability::kPowerSafe, seed), settings, seed,
                         sabotage);
  explorer.run({Kind::kWrite, 0});
  explorer.run({Kind::kFlush});
  explorer.crash_into(true);
  for (int i = 0; i < 3; ++i) explorer.run({Kind::kQuietDown});
  return explorer.finding();
}

}  // namespace

TEST_CASE("mutation: suspicion that is not durable when the log forgets is found") {
  // The header's syncs too: they cover the whole file.
  const auto sabotage = [](const StorageStep& step, Kind kind) {
    const bool is_sync = step.op == StorageOp::kSyncAll ||
                         (step.op == StorageOp::kSync && step.offset_bytes >= kSuspectAt);
    return kind == Kind::kReopen && is_sync ? StepVerdict::kPretends : StepVerdict::kWorks;
  };
  bool is_found = false;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    CHECK(suspected_then_quiet(seed, {}) == "");
    is_found = is_found ||
               suspected_then_quiet(seed, sabotage).find("marked nowhere") != std::string::npos;
  }
  CHECK(is_found);
}

// A header that only the page cache has: the power brings the target back, after the live
// marks went where the others' are.
TEST_CASE("T4: a removal that ends with its process, and the power as the disk is opened again") {
  const Script guest{{Kind::kWrite, 0}, {Kind::kQuietDown}, {Kind::kQuietDown}};
  const Script cycle{{Kind::kRemove, 0}};
  CrashSettings settings;
  settings.torn_count = 12;
  settings.crashes_again = true;
  CHECK(run_all(guest, cycle, settings).finding == "");
  const auto sabotage = [](const StorageStep& step, Kind kind) {
    const bool is_it = kind == Kind::kReopen && step.op == StorageOp::kSyncAll;
    return is_it ? StepVerdict::kPretends : StepVerdict::kWorks;
  };
  const Outcome outcome = run_all(guest, cycle, settings, {.sabotage = sabotage});
  CHECK(outcome.finding.find("marked nowhere") != std::string::npos);
}

TEST_CASE("mutation: a process-safe log that still says it is exact is found") {
  // The page says nothing of this process's writes; the one before it left it exact.
  check_found({}, {{Kind::kProcessSafe}, {Kind::kReopen}, {Kind::kWrite, 0}},
              {.sabotage = without(Kind::kReopen, StorageOp::kWrite, kLogAt, kLogAt + 1)});
}

TEST_CASE("mutation: an open that is not durable before the first write is found") {
  const auto sabotage = [](const StorageStep& step, Kind kind) {
    const bool is_sync = step.op == StorageOp::kSync || step.op == StorageOp::kSyncAll;
    return kind == Kind::kReopen && is_sync ? StepVerdict::kPretends : StepVerdict::kWorks;
  };
  check_found({}, {{Kind::kProcessSafe}, {Kind::kReopen}, {Kind::kWrite, 0}},
              {.sabotage = sabotage});
}

TEST_CASE("mutation: a close that does not flush the disk is found, in both modes") {
  for (const Durability durability : {Durability::kPowerSafe, Durability::kProcessSafe}) {
    check_found(kOneCycle, {{Kind::kReopen}}, {.quiets_without_flush = true}, durability);
  }
}

TEST_CASE("mutation: a close whose marks are not durable before its log says so is found") {
  for (const Durability durability : {Durability::kPowerSafe, Durability::kProcessSafe}) {
    check_found({{Kind::kWrite, 0}}, {{Kind::kReopen}},
                {.sabotage = without(Kind::kReopen, StorageOp::kSync, kLiveAt, kLiveEnd)},
                durability);
  }
}

namespace {

struct FailedSync {
  Kind of = Kind::kCheckpoint;
  bool forgets_trouble = false;  // as if it had been killed before it could note it
  bool forgets_renewal = false;
  bool gives_pages_up = false;
};

// The kernel takes pages for clean whose sync fails; the process ends, the next one's
// disk becomes quiet, and the power goes.
std::string failed_then_quiet(uint64_t seed, const FailedSync& failed_sync) {
  CrashSettings settings;
  settings.torn_count = 8;
  bool has_failed = false;
  CrashExplorer explorer(
      world_with(kSmallDisk, 1, Durability::kPowerSafe, seed), settings, seed,
      [&has_failed, &failed_sync](const StorageStep& step, Kind kind) {
        if (!has_failed && kind == failed_sync.of && step.op == StorageOp::kSync) {
          has_failed = true;
          return StepVerdict::kFails;
        }
        const bool is_log = step.op == StorageOp::kWrite && step.offset_bytes >= kLogAt;
        const bool is_note = has_failed && kind == failed_sync.of && is_log;
        const bool is_forgotten = (failed_sync.forgets_trouble && is_note) ||
                                  (failed_sync.forgets_renewal && step.op == StorageOp::kRenew);
        return is_forgotten ? StepVerdict::kPretends : StepVerdict::kWorks;
      });
  explorer.world().storage->failed_syncs_drop = true;
  explorer.run({Kind::kWrite, 0});
  for (int i = 0; i < 3 && !has_failed; ++i) explorer.run({failed_sync.of, 0});
  explorer.world().storage->gives_dropped_up = failed_sync.gives_pages_up;
  explorer.crash_into(false);
  for (int i = 0; i < 3; ++i) explorer.run({Kind::kQuietDown});
  return explorer.finding();
}

void check_found(const FailedSync& failed_sync) {
  bool is_found = false;
  for (uint64_t seed = 1; seed <= 10 && !is_found; ++seed) {
    is_found = failed_then_quiet(seed, failed_sync).find("marked nowhere") != std::string::npos;
  }
  CHECK(is_found);
}

}  // namespace

TEST_CASE("T5: a failed sync, the end of its process, and then the power's") {
  for (const Kind kind : {Kind::kCheckpoint, Kind::kQuietDown}) {
    for (uint64_t seed = 1; seed <= 10; ++seed) {
      CHECK(failed_then_quiet(seed, {.of = kind}) == "");
      CHECK(failed_then_quiet(seed, {.of = kind, .forgets_trouble = true}) == "");
      CHECK(failed_then_quiet(seed, {.of = kind, .gives_pages_up = true}) == "");
    }
  }
}

TEST_CASE("mutation: a failed sync that the log does not note is found") {
  check_found({.of = Kind::kQuietDown, .forgets_trouble = true, .gives_pages_up = true});
}

TEST_CASE("mutation: an open that takes for durable what a failed sync left is found") {
  check_found({.forgets_trouble = true, .forgets_renewal = true});
}

TEST_CASE("a seed reproduces a run") {
  uint64_t first = 0, second = 0;
  CHECK(random_run(7, 60, 20, &first) == random_run(7, 60, 20, &second));
  CHECK(first == second);
}
