// Scripts for a CrashWorld: two of them merged in every way, each way run with a crash
// at every step, in a world as it should be or with something wrong on purpose.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "crash_explorer.h"

namespace tidemark::simulation {

using Script = std::vector<GuestOperation>;

inline constexpr uint64_t kSmallDisk = 8 * kBlockBytes - 2 * kSectorBytes;  // a partial tail
inline constexpr uint64_t kWideDisk = 40'000 * kBlockBytes;                 // two pages a map

// Nothing of the disk is marked in the intent log, and nothing suspect.
inline std::unique_ptr<CrashWorld> world_with(uint64_t disk_size_bytes, uint64_t targets,
                                              Durability durability, uint64_t seed) {
  auto world = std::make_unique<CrashWorld>(disk_size_bytes, durability, seed);
  for (uint64_t target = 0; target < targets; ++target) {
    world->add_target(target, TargetStart::kNothing);
  }
  require_ok(world->close_and_open());
  return world;
}

// Every way to merge two scripts, each keeping its own order.
template <typename Body>
void for_each_interleaving(const Script& guest, const Script& cycle, Body body) {
  std::vector<bool> is_guest(guest.size() + cycle.size(), false);
  std::fill(is_guest.begin(), is_guest.begin() + static_cast<std::ptrdiff_t>(guest.size()), true);
  do {
    Script merged;
    size_t next_of_guest = 0, next_of_cycle = 0;
    for (const bool takes_guest : is_guest) {
      merged.push_back(takes_guest ? guest[next_of_guest++] : cycle[next_of_cycle++]);
    }
    body(merged);
  } while (std::prev_permutation(is_guest.begin(), is_guest.end()));
}

struct Outcome {
  uint64_t schedule_count = 0;
  uint64_t image_count = 0;
  std::string finding;
};

// What is wrong in a world on purpose.
struct Wrong {
  CrashExplorer::Sabotage sabotage{};
  bool marks_late = false;
  bool commits_early = false;
  bool quiets_without_flush = false;
};

inline Outcome run_all(const Script& guest, const Script& cycle, CrashSettings settings,
                       const Wrong& wrong = {}, Durability durability = Durability::kPowerSafe) {
  Outcome outcome;
  for_each_interleaving(guest, cycle, [&](const Script& script) {
    if (!outcome.finding.empty()) return;
    ++outcome.schedule_count;
    CrashExplorer explorer(world_with(kSmallDisk, 2, durability, 1), settings,
                           outcome.schedule_count, wrong.sabotage);
    explorer.marks_late = wrong.marks_late;
    explorer.commits_early = wrong.commits_early;
    explorer.quiets_without_flush = wrong.quiets_without_flush;
    for (const GuestOperation& operation : script) {
      if (!explorer.run(operation)) break;
    }
    outcome.image_count += explorer.image_count();
    outcome.finding = explorer.finding();
  });
  return outcome;
}

}  // namespace tidemark::simulation
