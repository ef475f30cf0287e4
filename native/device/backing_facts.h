// What tells one backing from another, and an untouched one from a written one.
#pragma once

#include <cstdint>
#include <string>

#include "common/status.h"

namespace tidemark {

struct BackingFacts {
  // The same after a restart of the machine: no device number is. "": nothing is known.
  std::string identity;
  int64_t modified_ns = 0;  // since 1970; 0: the backing does not say
};

// Of an open file or block device.
Result<BackingFacts> probe_backing_facts(int fd);

}  // namespace tidemark
