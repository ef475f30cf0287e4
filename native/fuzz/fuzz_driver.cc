// Runs a target on its corpus, then on inputs made from a seed: samples, and
// samples and corpus files with bytes changed, put in, left out. The same seed
// makes the same inputs on any machine.
//
//   NAME_fuzz_run [--inputs N | --requests N] [--seed S] [--only INDEX] [CORPUS]
//   NAME_fuzz_run --write-corpus DIRECTORY
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string_view>
#include <vector>

#include "fuzz_target.h"

extern "C" void __sanitizer_set_death_callback(void (*callback)()) __attribute__((weak));

namespace {

using namespace tidemark::fuzz;

struct Plan {
  uint64_t inputs = 20000;
  uint64_t requests = 0;  // in place of inputs: until so many were made
  uint64_t seed = 1;
  int64_t only = -1;
  std::string corpus;
  std::string write_to;
};

Plan plan;
uint64_t current_index = 0;

void tell_where() {
  std::fprintf(stderr, "\nfound with: --seed %llu --only %llu (in the corpus if that is clean)\n",
               static_cast<unsigned long long>(plan.seed),
               static_cast<unsigned long long>(current_index));
}

bool parse(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view name(argv[i]);
    if (!name.starts_with("--")) {
      plan.corpus = name;
      continue;
    }
    if (++i == argc) return false;
    const uint64_t value = std::strtoull(argv[i], nullptr, 10);
    if (name == "--inputs") {
      plan.inputs = value;
    } else if (name == "--requests") {
      plan.requests = value;
    } else if (name == "--seed") {
      plan.seed = value;
    } else if (name == "--only") {
      plan.only = static_cast<int64_t>(value);
    } else if (name == "--write-corpus") {
      plan.write_to = argv[i];
    } else {
      return false;
    }
  }
  return true;
}

std::vector<std::string> read_corpus() {
  std::vector<std::string> files;
  if (plan.corpus.empty()) return files;
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(plan.corpus)) {
    paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  for (const auto& path : paths) {
    std::ifstream file(path, std::ios::binary);
    files.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  return files;
}

size_t position(std::mt19937_64& random, const std::string& bytes) {
  return bytes.empty() ? 0 : random() % bytes.size();
}

// A number that sits on an edge, at a random width.
std::string edge_number(std::mt19937_64& random) {
  const size_t width = size_t{1} << random() % 4;
  const uint64_t value = (uint64_t{1} << random() % 64) + random() % 3 - 1;
  std::string bytes;
  for (size_t i = width; i-- > 0;) bytes += static_cast<char>(value >> (8 * i));
  return bytes;
}

void mutate(std::string& bytes, std::mt19937_64& random) {
  const size_t at = position(random, bytes);
  switch (random() % 6) {
    case 0:
      if (!bytes.empty()) bytes[at] = static_cast<char>(bytes[at] ^ (1 << random() % 8));
      break;
    case 1:
      if (!bytes.empty()) bytes[at] = static_cast<char>(random());
      break;
    case 2:
      bytes.insert(at, random() % 16, static_cast<char>(random()));
      break;
    case 3:
      bytes.erase(at, random() % 16);
      break;
    case 4:
      bytes.insert(at, bytes.substr(position(random, bytes), random() % 64));
      break;
    default: {
      const std::string number = edge_number(random);
      bytes.replace(at, number.size(), number);
    }
  }
}

std::string input_of(uint64_t index, const std::vector<std::string>& corpus) {
  std::mt19937_64 random(plan.seed * 0x9e3779b97f4a7c15 + index);
  const bool is_from_corpus = !corpus.empty() && random() % 4 == 0;
  std::string bytes = is_from_corpus ? corpus[random() % corpus.size()] : sample(random);
  for (uint64_t count = random() % 4; count > 0; --count) mutate(bytes, random);
  return bytes;
}

void run(const std::string& bytes) { fuzz_one(std::as_bytes(std::span(bytes))); }

// Small ones only: they are kept in the tree.
int write_corpus() {
  std::filesystem::create_directories(plan.write_to);
  int count = 0;
  for (uint64_t seed = 0; count < 16; ++seed) {
    std::mt19937_64 random(seed);
    const std::string bytes = sample(random);
    if (bytes.size() < 100 || bytes.size() > 2000) continue;
    std::ofstream(plan.write_to + "/sample-" + std::to_string(count++), std::ios::binary) << bytes;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (!parse(argc, argv)) {
    std::fputs("usage: [--inputs N | --requests N] [--seed S] [--only INDEX] [CORPUS]\n", stderr);
    return 2;
  }
  if (!plan.write_to.empty()) return write_corpus();
  if (__sanitizer_set_death_callback != nullptr) __sanitizer_set_death_callback(tell_where);
  const std::vector<std::string> corpus = read_corpus();
  if (plan.only >= 0) {
    run(input_of(static_cast<uint64_t>(plan.only), corpus));
    return 0;
  }
  for (const std::string& bytes : corpus) run(bytes);
  const auto is_enough = [] {
    return plan.requests > 0 ? requests_total() >= plan.requests : current_index >= plan.inputs;
  };
  for (current_index = 0; !is_enough(); ++current_index) run(input_of(current_index, corpus));
  std::printf("%llu inputs, %zu of the corpus, %llu requests: nothing found\n",
              static_cast<unsigned long long>(current_index), corpus.size(),
              static_cast<unsigned long long>(requests_total()));
  return 0;
}
