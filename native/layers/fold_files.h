// The files of a fold: the base, open for writing, and beside the scratch
//   SCRATCH.marks    which granules are in the base
//   SCRATCH.frozen   the scratch's index, renamed: no more of it changes
// docs/formats/fold.md has the order of the steps. All calls block.
#pragma once

#include <memory>
#include <string>

#include "layers/scratch_files.h"

namespace tidemark {

bool has_fold_begun(const std::string& scratch_path);

struct FoldFiles {
  OpenScratch scratch;  // frozen
  std::shared_ptr<BlockDevice> base_device;
  std::unique_ptr<Scratch> base;  // with the marks
};

// Of a fold that has begun. `identity` is the scratch's, but for the base's size, which
// the fold may have changed. kCorrupt without marks, kForeign when what is there
// belongs to other layers or another base.
Result<FoldFiles> open_fold_files(const std::string& scratch_path, ScratchIdentity identity,
                                  const std::string& base_path);

// Begins one: durable when it returns. The base is made where there was none
// (`had_base`), and grows to the disk's size. May be repeated when it has failed.
Result<std::unique_ptr<Scratch>> begin_fold_files(const OpenScratch& scratch,
                                                  const std::string& base_path, bool had_base);

}  // namespace tidemark
