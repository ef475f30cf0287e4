// Layer: the immutable file that holds one recovery point's changed blocks of
// one disk, and the two steps that make it.
//
// File: a 4 KiB header page, the data area (packed raw blocks, granules of
// `granularity_bytes`), then at its end the index (extents sorted by disk
// offset, not overlapping), one CRC-32C for each granule of data, and a footer
// with the checksum of all that. The header says "sealed" only after everything
// else is durable: a layer is complete or it does not exist.
// docs/formats/layer.md describes every byte.
//
// Making one: segments of a delta arrive in parallel, so each has a region of
// the data area of its own (LayerSegmentWriter), written by one thread, and
// yields a blob of index entries; seal_layer() joins the blobs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "common/status.h"
#include "common/uuid.h"

namespace tidemark {

inline constexpr uint64_t kLayerDataOffset = 4096;

// An entry of the index. A zero extent has no data: its file offset is 0, which
// is no offset of data, because the header is there.
struct LayerExtent {
  uint64_t disk_offset_bytes = 0;
  uint64_t length_bytes = 0;
  uint64_t file_offset_bytes = 0;
  uint64_t first_checksum_index = 0;  // how many checksums precede this extent's

  bool is_zero() const noexcept { return file_offset_bytes == 0; }
  uint64_t disk_end_bytes() const noexcept { return disk_offset_bytes + length_bytes; }
  uint64_t file_end_bytes() const noexcept { return file_offset_bytes + length_bytes; }
};

struct LayerIdentity {
  Uuid disk;
  Uuid lineage;
  uint64_t sequence = 0;  // the recovery point's number on this replica
  uint64_t disk_size_bytes = 0;
  uint32_t granularity_bytes = 4096;
};

class LayerSegmentWriter {
 public:
  // Creates the file when it is missing. The region [region_offset, + capacity)
  // of the file is this writer's alone.
  static Result<std::unique_ptr<LayerSegmentWriter>> open(const std::string& path,
                                                          uint64_t region_offset_bytes,
                                                          uint64_t capacity_bytes,
                                                          uint32_t granularity_bytes);
  ~LayerSegmentWriter();

  // `disk_offset` is a multiple of the granularity; the length too, but for the
  // disk's last block. Rejects (kInvalidArgument) what does not fit or overlaps.
  Status append(uint64_t disk_offset_bytes, std::span<const std::byte> data);
  Status zero(uint64_t disk_offset_bytes, uint64_t length_bytes);

  // fdatasync, then the index entries and checksums of this segment.
  Result<std::vector<std::byte>> finish();

 private:
  class Impl;
  explicit LayerSegmentWriter(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

struct LayerSummary {
  uint64_t extent_count = 0;
  uint64_t data_bytes = 0;
  uint64_t zero_bytes = 0;
  uint32_t checksum = 0;  // of index, granule checksums and identity
};

// Merges the blobs, refuses overlaps (kCorrupt), writes index and footer, syncs,
// seals the header, syncs. An empty layer (no blobs) is valid.
Result<LayerSummary> seal_layer(const std::string& path, const LayerIdentity& identity,
                                std::span<const std::vector<std::byte>> index_blobs);

// A sealed layer, open for reading; the index is mapped. Immutable: any thread.
class Layer {
 public:
  struct Run {
    uint64_t length_bytes;       // of this run, from the asked offset
    bool present;                // false: the layer says nothing here, look below
    bool zero;                   // present, and all zero
    uint64_t file_offset_bytes;  // present and not zero: where in the file
  };

  // kNotFound, kTruncated, kCorrupt, kVersion, kForeign (not `expected_disk`).
  static Result<std::shared_ptr<const Layer>> open(const std::string& path,
                                                   const Uuid& expected_disk);
  ~Layer();

  const LayerIdentity& identity() const noexcept;
  const LayerSummary& summary() const noexcept;
  int fd() const noexcept;

  // What holds from `disk_offset` on: one run, at most max_bytes long.
  Run find(uint64_t disk_offset_bytes, uint64_t max_bytes) const noexcept;

  // Re-reads every granule against its checksum; kCorrupt names the first that
  // differs by its disk offset. Blocks.
  Status verify() const;

  // The index: entries sorted by disk offset, and the first that reaches past one.
  uint64_t extent_count() const noexcept { return summary().extent_count; }
  LayerExtent extent_at(uint64_t index) const noexcept;
  uint64_t first_extent_past(uint64_t disk_offset_bytes) const noexcept;
  uint32_t checksum_at(uint64_t index) const noexcept;

 private:
  class Impl;
  explicit Layer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tidemark
