// A loop device over a file, past the page cache of the file: what is cached is
// the device's, once.
#pragma once

#include <cstdint>
#include <string>

#include "common/status.h"

namespace tidemark::attach {

// The device's path. kUnsupported without the loop module, or where the file
// cannot be read and written directly: through the page cache, cleaning the
// device's pages would take pages of the file's.
Result<std::string> attach_loop_device(const std::string& file_path, uint32_t block_bytes);

// Refuses (kInUse) while something has it open for itself; else flushes it and
// takes it away.
Status detach_loop_device(const std::string& device_path);

// Without flushing or asking, if `file_path` is what it was attached to: for a
// device whose file's process is gone. While something has the device open it
// goes with the last one's close.
Status drop_loop_device(const std::string& device_path, const std::string& file_path);

}  // namespace tidemark::attach
