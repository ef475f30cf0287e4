// FileDevice: a regular file or a block device as a BlockDevice.
//
// I/O that the page cache can take at once is done inline on the submitter's
// thread; what would wait goes to an engine: io_uring where the kernel allows
// it, else a pool of threads. Which one it is, traits().engine says.
#pragma once

#include <memory>
#include <string>

#include "device/block_device.h"

namespace tidemark {

enum class IoEngineKind : uint8_t { kAutomatic, kIoUring, kThreads };

struct FileDeviceParameters {
  std::string path;
  bool read_only = false;
  bool direct = false;             // O_DIRECT; callers' buffers are bounced when unaligned
  IoEngineKind engine = IoEngineKind::kAutomatic;
  ImageLockMode lock = ImageLockMode::kNone;
};

// kNotFound, kReadOnly (no permission), kUnsupported (not a file or block device),
// kInUse (its image lock).
Result<std::shared_ptr<BlockDevice>> open_file_device(const FileDeviceParameters& parameters);

}  // namespace tidemark
