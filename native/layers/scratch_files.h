// A scratch's two files: `path`, sparse and of the disk's size, and
// `path` + ".index". The index appears, by rename, when both are whole and
// durable; so an index without a header never exists.
#pragma once

#include <memory>
#include <string>

#include "common/fd.h"
#include "device/block_device.h"
#include "layers/scratch.h"
#include "layers/scratch_format.h"

namespace tidemark {

struct OpenScratch {
  std::unique_ptr<Scratch> scratch;
  UniqueFd lock;  // shuts out other processes, and other devices of this one
};

// Opens it or, where there is none, makes it. kInUse when another device has it.
Result<OpenScratch> open_scratch_files(const std::string& path, const ScratchIdentity& identity);

}  // namespace tidemark
