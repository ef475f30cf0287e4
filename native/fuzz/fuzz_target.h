// What a target of the fuzzers is: one file NAME_fuzz.cc that defines these, linked
// with fuzz_driver.cc (seeded, anywhere) or libfuzzer_entry.cc (clang's libFuzzer).
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <string>

namespace tidemark::fuzz {

// Runs one input; ends the process on a finding.
void fuzz_one(std::span<const std::byte> input);

// An input that gets deep: what a client might send, more or less.
std::string sample(std::mt19937_64& random);

// NBD requests that all inputs so far brought.
uint64_t requests_total();

// A condition that no input may break.
void demand(bool condition, const char* what);

}  // namespace tidemark::fuzz
