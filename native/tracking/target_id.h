#pragma once

#include <string_view>

#include "common/uuid.h"

namespace tidemark {

// The id of the target that people call `name`: the UUID that it is, or the
// version 5 UUID of it. lib/tracking/target-id.ts makes the same.
Uuid target_id_of(std::string_view name);

}  // namespace tidemark
