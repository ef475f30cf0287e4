#pragma once

#include "common/uuid.h"

namespace tidemark {

// Of the kernel that runs: another one after each boot. Nil: it does not say.
Uuid boot_id();

}  // namespace tidemark
