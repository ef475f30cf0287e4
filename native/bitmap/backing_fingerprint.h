// What a disk's backing was when nobody wrote to it any more, as the bitmap file
// keeps it. Who can look at a backing takes it and compares it (native/tracking).
#pragma once

#include <array>
#include <cstdint>

namespace tidemark {

struct BackingFingerprint {
  using Digest = std::array<uint8_t, 20>;  // SHA-1: tells accidents, protects nothing

  enum class State : uint32_t {
    kNone = 0,
    kClosed = 1,  // all of it: the backing as it was at the close
    kInUse = 2,   // the identity alone: it has been written to since
  };

  State state = State::kNone;
  Digest identity{};  // zeroes: the backing has none
  uint64_t size_bytes = 0;
  int64_t modified_ns = 0;  // 0: the backing does not say
  uint64_t sample_seed = 0;
  uint32_t sample_count = 0;
  Digest samples{};

  bool operator==(const BackingFingerprint&) const = default;
};

}  // namespace tidemark
