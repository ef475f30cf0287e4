#pragma once

#include <memory>

#include "device/io_engine.h"

namespace tidemark {

// A pool of threads that do blocking system calls. Threads start on demand, up
// to 32, and stay until the engine ends.
std::shared_ptr<IoEngine> make_threads_engine();

}  // namespace tidemark
