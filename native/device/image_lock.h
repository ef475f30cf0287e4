// QEMU's convention for locking images, so that QEMU and its tools refuse an
// image that we have open, and we one that they have.
//
// Each holder says with read locks on single bytes of the file (of the open file
// description, F_OFD_SETLK) what it does (byte 100 + n for permission n) and what
// nobody else may do (byte 200 + n). First it takes its own, then it asks whether
// anybody holds what contradicts them: of two that come at once at least one sees
// the other. The bytes need not exist, and their content does not matter.
#pragma once

#include <cstdint>
#include <string>

#include "common/status.h"

namespace tidemark {

enum class ImageLockMode : uint8_t {
  kNone,       // takes none and asks nobody: for files that only we know
  kExclusive,  // nobody else may write or resize; readers that allow a writer may read
  // Says what it does, forbids nothing and does not ask: for a hand-over, in which
  // the other side is known and has the image too. Whoever comes and does not
  // allow a writer is refused.
  kShared,
};

// For the open file description of `fd`, until its last descriptor is closed or
// the mode is changed by another call. kInUse: somebody's lock contradicts it; then
// the locks are as before for a new description, none. `path` is for messages.
Status lock_image(int fd, ImageLockMode mode, bool read_only, const std::string& path);

}  // namespace tidemark
