#pragma once

#include <string>

#include "common/fd.h"
#include "common/status.h"

namespace tidemark::attach {

// A block device, flushed and opened for ourselves alone: nobody can mount it
// meanwhile. kInUse when somebody has it already.
Result<UniqueFd> claim_and_flush(const std::string& device_path);

}  // namespace tidemark::attach
