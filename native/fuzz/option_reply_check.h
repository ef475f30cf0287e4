// What every option reply must look like, written from the specification.
#pragma once

#include <string>

#include "fuzz_target.h"
#include "wire_sample.h"

namespace tidemark::fuzz {

inline constexpr size_t kGreetingBytes = 18;

struct OptionReplySeen {
  uint64_t option;
  uint64_t type;
};

// Whole option replies from `at` on, up to something else or until `next` says
// false; where it stopped.
template <typename Next>
size_t check_option_replies(const std::string& replies, size_t at, Next next) {
  constexpr uint64_t kMagic = 0x0003e889045565a9;
  constexpr size_t kHeaderBytes = 20;
  while (at + kHeaderBytes <= replies.size() && be_at(replies, at, 8) == kMagic) {
    const OptionReplySeen seen{be_at(replies, at + 8, 4), be_at(replies, at + 12, 4)};
    const uint64_t length = be_at(replies, at + 16, 4);
    demand(length <= replies.size() - at - kHeaderBytes, "an option reply is cut off");
    demand(
        (seen.type >= 1 && seen.type <= 4) || (seen.type >= 0x80000001 && seen.type <= 0x8000000a),
        "an option reply of an unknown type");
    at += kHeaderBytes + length;
    if (!next(seen)) break;
  }
  return at;
}

}  // namespace tidemark::fuzz
