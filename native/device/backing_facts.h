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
  // Another number after every write, whoever made it, and the same while nobody writes;
  // 0: there is none that can be relied upon.
  uint64_t write_stamp = 0;
  // A write changes it when it reaches the device, which may be long after its completion
  // and before the end of a flush. Else at once.
  bool counts_what_arrived = false;
};

// Of an open file or block device.
Result<BackingFacts> probe_backing_facts(int fd);

}  // namespace tidemark
