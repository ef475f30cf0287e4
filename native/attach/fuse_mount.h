#pragma once

#include <string>

#include "common/status.h"

namespace tidemark::attach {

// Aborts the FUSE connection mounted at `path`, so that whatever waits for its
// process gets an error instead, and unmounts it. Ok when nothing is mounted.
Status end_fuse_mount(const std::string& path);

}  // namespace tidemark::attach
