// Fold: makes a served recovery point a plain disk, in place, while it is in use.
//
// From its beginning the guest writes to the base, and what the base does not have
// yet is copied there from layers and scratch (fold_copier.h), step by step. When
// it is finished the base alone is the disk. It cannot be undone; a crash at any
// time is made good by opening the device again and going on. Steps by one thread
// at a time; all calls block. docs/formats/fold.md has the files and their order.
#pragma once

#include <memory>
#include <string>

#include "layers/fold_copier.h"
#include "layers/layered_device.h"

namespace tidemark {

class Fold {
 public:
  // Begins, or goes on with what was begun before. `base_path` is the base with which
  // the device was opened; where it had none, the file that becomes it. kInUse: the
  // device, or another one with this base, is being folded.
  static Result<std::unique_ptr<Fold>> open(std::shared_ptr<LayeredDevice> device,
                                            const std::string& base_path);
  ~Fold();

  // Copies about so much; answers whether something is left.
  Result<bool> step(uint64_t max_bytes);
  uint64_t position_bytes() const noexcept { return copier_.position_bytes(); }

  // What is left, and all of it durable. The base has the disk's size then, and needs
  // neither layers nor scratch. May be repeated.
  Status finish();

 private:
  explicit Fold(std::shared_ptr<LayeredDevice> device);

  const std::shared_ptr<LayeredDevice> device_;
  FoldCopier copier_;
};

}  // namespace tidemark
