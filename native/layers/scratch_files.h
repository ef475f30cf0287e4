// A scratch's two files: `path`, sparse and of the disk's size, and
// `path` + ".index". The index appears, by rename, when both are whole and
// durable; so an index without a header never exists.
#pragma once

#include <memory>
#include <string>

#include "common/fd.h"
#include "device/block_device.h"
#include "layers/scratch.h"
#include "layers/scratch_budget.h"
#include "layers/scratch_format.h"

namespace tidemark {

struct OpenScratch {
  std::string path;
  ScratchIdentity identity;
  Uuid uuid;  // the scratch's own
  std::unique_ptr<Scratch> scratch;
  UniqueFd lock;  // shuts out other processes, and other devices of this one
};

std::string scratch_index_path(const std::string& path);
// Where the index is once a fold has begun: without it the scratch is no scratch.
std::string frozen_index_path(const std::string& path);

// Makes an empty index under its final name, whole and durable.
Status create_index(const std::string& path, const ScratchIdentity& identity,
                    const std::string& what);

// Opens it or, where there is none, makes it. kInUse when another device has it.
// `budget` null: it may take what there is.
Result<OpenScratch> open_scratch_files(const std::string& path, const ScratchIdentity& identity,
                                       std::shared_ptr<ScratchBudget> budget);

// One whose fold has begun, and which does not change any more.
Result<OpenScratch> open_frozen_scratch(const std::string& path, const ScratchIdentity& identity);

}  // namespace tidemark
