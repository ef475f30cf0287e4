// How many runs, and which. TIDEMARK_SIM_SEED=n runs that one alone;
// TIDEMARK_SIM_RUNS=n sets how many; TIDEMARK_SOAK asks for the full count.
#pragma once

#include <doctest/doctest.h>

#include <cstdint>
#include <cstdlib>

namespace tidemark::simulation {

template <typename Body>
void for_each_seed(uint64_t few, uint64_t many, Body body) {
  if (const char* one = std::getenv("TIDEMARK_SIM_SEED")) {
    body(std::strtoull(one, nullptr, 10));
    return;
  }
  uint64_t count = std::getenv("TIDEMARK_SOAK") != nullptr ? many : few;
  if (const char* runs = std::getenv("TIDEMARK_SIM_RUNS")) count = std::strtoull(runs, nullptr, 10);
  for (uint64_t seed = 1; seed <= count; ++seed) {
    INFO("TIDEMARK_SIM_SEED=" << seed);
    body(seed);
  }
}

}  // namespace tidemark::simulation
