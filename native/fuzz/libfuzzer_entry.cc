#include "fuzz_target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tidemark::fuzz::fuzz_one(std::as_bytes(std::span(data, size)));
  return 0;
}
