#pragma once

#include <memory>

#include "device/io_engine.h"

namespace tidemark {

// Reads and writes through one io_uring, owned by one thread; calls that the
// kernel would hand to worker threads of its own go to `blocking` at once. Null
// where io_uring cannot be had (old kernel, forbidden, no memory).
std::shared_ptr<IoEngine> make_uring_engine(std::shared_ptr<IoEngine> blocking);

}  // namespace tidemark
