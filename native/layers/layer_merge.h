// LayerMerge: what several layers of one disk hold together goes into one place, a new
// layer or the base, a part at a time.
//
// On the way into a layer each granule is checked: what rotted is refused (kCorrupt names the
// layer) and never gets a checksum that fits. Into the base it goes as it is; who merges keeps
// the layers' checksums beside the base. The sources stay as they are, the target is of use
// only after finish(). One thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "layers/layer.h"
#include "layers/layer_overlay.h"

namespace tidemark {

// Where the merged blocks go; offsets are the disk's and ascend.
class MergeTarget {
 public:
  virtual ~MergeTarget() = default;
  virtual Status data(uint64_t disk_offset_bytes, std::span<const std::byte> bytes) = 0;
  virtual Status zero(uint64_t disk_offset_bytes, uint64_t length_bytes) = 0;
  // What was written begins to reach the disk, so that finish() has little to wait for.
  virtual void begin_writeback() = 0;
  // Durable.
  virtual Result<LayerSummary> finish() = 0;
};

class LayerMerge {
 public:
  // A new file, sealed by finish(). Of `identity` the granularity is that of the finest
  // layer. kUnsupported when a layer's partial last block would end inside another's.
  static Result<std::unique_ptr<LayerMerge>> into_layer(const std::string& path,
                                                        LayerIdentity identity,
                                                        const std::vector<std::string>& layers);

  // A raw file that is there: holes where the layers are zero. What lies past the disk's
  // size is left out. May be repeated.
  static Result<std::unique_ptr<LayerMerge>> into_base(const std::string& path, const Uuid& disk,
                                                       uint64_t disk_size_bytes,
                                                       const std::vector<std::string>& layers);

  // Copies about so much; answers whether something is left.
  Result<bool> step(uint64_t max_bytes);

  Result<LayerSummary> finish();

 private:
  using Layers = std::vector<std::shared_ptr<const Layer>>;

  LayerMerge(Layers layers, std::vector<std::string> paths, std::vector<LayerPiece> pieces,
             std::unique_ptr<MergeTarget> target, bool checked);
  Status read_piece(const LayerPiece& piece, uint64_t offset_bytes);
  Result<uint64_t> copy_next();

  Layers layers_;
  std::vector<std::string> paths_;  // as layers_
  std::vector<LayerPiece> pieces_;
  std::unique_ptr<MergeTarget> target_;
  bool checked_;
  uint64_t copy_bytes_ = 1U << 20;  // at once; whole blocks of every layer
  size_t next_ = 0;                 // the piece that comes next, and
  uint64_t piece_done_bytes_ = 0;   // how much of it was copied
  std::vector<std::byte> data_;
  std::vector<std::byte> granules_;
};

}  // namespace tidemark
