#include "layers/layer_merge.h"

#include <algorithm>
#include <utility>

#include "layers/checked_read.h"
#include "layers/file_io.h"
#include "layers/merge_targets.h"

namespace tidemark {

namespace {

// What an extent of zeroes counts, however long it is.
constexpr uint64_t kZeroWorkBytes = 4096;

using Layers = std::vector<std::shared_ptr<const Layer>>;

Result<Layers> open_layers(const std::vector<std::string>& paths, const Uuid& disk) {
  Layers layers;
  for (const std::string& path : paths) {
    auto layer = Layer::open(path, disk);
    if (!layer.is_ok()) return layer.status();
    layers.push_back(std::move(layer).value());
  }
  return layers;
}

uint32_t finest_granularity(const Layers& layers, uint32_t otherwise) {
  if (layers.empty()) return otherwise;
  const auto finest =
      std::min_element(layers.begin(), layers.end(), [](const auto& a, const auto& b) {
        return a->identity().granularity_bytes < b->identity().granularity_bytes;
      });
  return (*finest)->identity().granularity_bytes;
}

Status check_blocks(const std::vector<LayerPiece>& pieces, const LayerIdentity& identity) {
  for (const LayerPiece& piece : pieces) {
    const bool whole = piece.disk_offset_bytes % identity.granularity_bytes == 0 &&
                       (piece.length_bytes % identity.granularity_bytes == 0 ||
                        piece.disk_end_bytes() == identity.disk_size_bytes);
    if (whole && piece.disk_end_bytes() <= identity.disk_size_bytes) continue;
    return {ErrorCode::kUnsupported,
            "Cannot merge layers: because the disk was resized within the block at " +
                std::to_string(piece.disk_offset_bytes) + ". Leave them as they are."};
  }
  return Status::ok();
}

uint64_t data_bytes_of(const std::vector<LayerPiece>& pieces) {
  uint64_t data_bytes = 0;
  for (const LayerPiece& piece : pieces) data_bytes += piece.zero ? 0 : piece.length_bytes;
  return data_bytes;
}

void cut_at(std::vector<LayerPiece>& pieces, uint64_t end_bytes) {
  std::erase_if(pieces, [&](const LayerPiece& p) { return p.disk_offset_bytes >= end_bytes; });
  if (pieces.empty()) return;
  LayerPiece& last = pieces.back();
  last.length_bytes = std::min(last.length_bytes, end_bytes - last.disk_offset_bytes);
}

}  // namespace

LayerMerge::LayerMerge(Layers layers, std::vector<std::string> paths,
                       std::vector<LayerPiece> pieces, std::unique_ptr<MergeTarget> target,
                       bool checked)
    : layers_(std::move(layers)),
      paths_(std::move(paths)),
      pieces_(std::move(pieces)),
      target_(std::move(target)),
      checked_(checked) {
  for (const auto& layer : layers_) {
    copy_bytes_ = std::max<uint64_t>(copy_bytes_, layer->identity().granularity_bytes);
  }
}

Result<std::unique_ptr<LayerMerge>> LayerMerge::into_layer(const std::string& path,
                                                           LayerIdentity identity,
                                                           const std::vector<std::string>& paths) {
  auto layers = open_layers(paths, identity.disk);
  if (!layers.is_ok()) return layers.status();
  identity.granularity_bytes = finest_granularity(layers.value(), identity.granularity_bytes);
  auto pieces = overlay_layers(layers.value());
  if (Status status = check_blocks(pieces, identity); !status.is_ok()) return status;
  auto target = open_layer_target(path, identity, data_bytes_of(pieces));
  if (!target.is_ok()) return target.status();
  return std::unique_ptr<LayerMerge>(new LayerMerge(
      std::move(layers).value(), paths, std::move(pieces), std::move(target).value(), true));
}

Result<std::unique_ptr<LayerMerge>> LayerMerge::into_base(const std::string& path, const Uuid& disk,
                                                          uint64_t disk_size_bytes,
                                                          const std::vector<std::string>& paths) {
  auto layers = open_layers(paths, disk);
  if (!layers.is_ok()) return layers.status();
  auto pieces = overlay_layers(layers.value());
  cut_at(pieces, disk_size_bytes);
  auto target = open_base_target(path);
  if (!target.is_ok()) return target.status();
  return std::unique_ptr<LayerMerge>(new LayerMerge(
      std::move(layers).value(), paths, std::move(pieces), std::move(target).value(), false));
}

Status LayerMerge::read_piece(const LayerPiece& piece, uint64_t offset_bytes) {
  const Layer& layer = *layers_[piece.layer];
  const std::string what = "Cannot merge layer " + paths_[piece.layer];
  if (checked_) return read_checked(layer, offset_bytes, data_, granules_, what);
  const uint64_t file_offset_bytes = layer.find(offset_bytes, data_.size()).file_offset_bytes;
  return read_whole(layer.fd(), file_offset_bytes, data_, what);
}

// The next part of the next piece; answers about how much work that was.
Result<uint64_t> LayerMerge::copy_next() {
  const LayerPiece& piece = pieces_[next_];
  const uint64_t offset_bytes = piece.disk_offset_bytes + piece_done_bytes_;
  const uint64_t left_bytes = piece.length_bytes - piece_done_bytes_;
  Status status;
  if (piece.zero) {
    status = target_->zero(offset_bytes, left_bytes);
    piece_done_bytes_ += left_bytes;
  } else {
    data_.resize(std::min(left_bytes, copy_bytes_));
    status = read_piece(piece, offset_bytes);
    if (status.is_ok()) status = target_->data(offset_bytes, data_);
    piece_done_bytes_ += data_.size();
  }
  if (!status.is_ok()) return status;
  const uint64_t work_bytes = piece.zero ? kZeroWorkBytes : data_.size();
  if (piece_done_bytes_ == piece.length_bytes) {
    ++next_;
    piece_done_bytes_ = 0;
  }
  return work_bytes;
}

Result<bool> LayerMerge::step(uint64_t max_bytes) {
  for (uint64_t done_bytes = 0; done_bytes < max_bytes && next_ < pieces_.size();) {
    const auto work_bytes = copy_next();
    if (!work_bytes.is_ok()) return work_bytes.status();
    done_bytes += work_bytes.value();
  }
  target_->begin_writeback();
  return next_ < pieces_.size();
}

Result<LayerSummary> LayerMerge::finish() { return target_->finish(); }

}  // namespace tidemark
