#include "tracking/canary.h"

namespace tidemark {

Canary::Canary(const BlockDevice& backing, const Gate& gate) : backing_(backing), gate_(gate) {
  (void)look(false);
}

std::optional<uint64_t> Canary::take_sample() noexcept {
  const uint64_t offset_bytes = sample_.exchange(kNone, std::memory_order_relaxed);
  return offset_bytes == kNone ? std::nullopt : std::optional(offset_bytes);
}

// A write's effect lies between its entering the gate and its leaving, behind its note.
// One that is done before the gate is counted is in this look's stamp; one that is inside
// then makes the next look say nothing; one that comes later leaves its note, which is
// read after the stamp.
bool Canary::look(bool has_marks) {
  const bool was_written = was_written_.exchange(false);
  const bool is_idle = gate_.inside_count() == 0;
  const Result<BackingFacts> facts = backing_.facts();
  const std::optional<uint64_t> known = known_stamp_;
  known_stamp_.reset();
  if (!facts.is_ok() || facts.value().write_stamp == 0) return false;
  if (facts.value().counts_what_arrived && has_marks) return false;
  const uint64_t stamp = facts.value().write_stamp;
  if (is_idle) known_stamp_ = stamp;
  if (was_written || was_written_.load() || !known) return false;
  return *known != stamp;
}

}  // namespace tidemark
