// Where the intent log's page lies: the bitmap file, or what a test puts there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "common/status.h"

namespace tidemark {

// Called by one thread at a time. What is written is durable after the next sync that
// succeeds; until then any of its sectors may be there or not.
class IntentStorage {
 public:
  virtual ~IntentStorage() = default;
  // Whole sectors, at an offset in the page.
  virtual Status write(uint64_t offset_bytes, std::span<const std::byte> bytes) = 0;
  virtual Status sync() = 0;
};

}  // namespace tidemark
