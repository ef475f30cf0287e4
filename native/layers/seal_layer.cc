// seal_layer(): see layer.h. Order on the disk: data (synced by the segments),
// index + footer, sync, header, sync. A crash anywhere before the last step
// leaves a file without a valid header, which no reader takes for a layer.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "common/byte_order.h"
#include "common/crc32c.h"
#include "common/failpoint.h"
#include "common/fd.h"
#include "layers/file_io.h"
#include "layers/layer.h"
#include "layers/layer_format.h"

namespace tidemark {

namespace {

struct PlacedExtent {
  LayerExtent extent;
  const uint32_t* checksums;  // the extent's own, in its blob
};

struct JoinedIndex {
  uint64_t index_offset_bytes = 0;
  uint64_t checksum_count = 0;
  LayerSummary summary;
  std::vector<std::byte> bytes;  // extents, then checksums, as in the file
};

Status check_identity(const LayerIdentity& identity, const std::string& what) {
  if (!is_valid_granularity(identity.granularity_bytes)) {
    return {ErrorCode::kInvalidArgument,
            what + ": because its granularity is no power of two from 512 B to 64 MiB."};
  }
  if (identity.disk_size_bytes == 0 || identity.disk_size_bytes > kLargestDiskBytes) {
    return {ErrorCode::kInvalidArgument,
            what + ": because the disk's size is not a size of a disk."};
  }
  return Status::ok();
}

Status overlap(const std::string& what, const char* where, const LayerExtent& extent) {
  return {ErrorCode::kCorrupt, what + ": because two segments overlap " + where +
                                   ", at disk offset " + std::to_string(extent.disk_offset_bytes) +
                                   ". Receive the delta again."};
}

Status check_file_ranges(std::vector<PlacedExtent> placed, const std::string& what) {
  std::erase_if(placed, [](const PlacedExtent& p) { return p.extent.is_zero(); });
  std::sort(placed.begin(), placed.end(), [](const PlacedExtent& a, const PlacedExtent& b) {
    return a.extent.file_offset_bytes < b.extent.file_offset_bytes;
  });
  for (size_t i = 1; i < placed.size(); ++i) {
    if (placed[i - 1].extent.file_end_bytes() > placed[i].extent.file_offset_bytes) {
      return overlap(what, "in the file", placed[i].extent);
    }
  }
  return Status::ok();
}

// Sorted by disk offset. Points into `segments`.
Result<std::vector<PlacedExtent>> placed_extents(const std::vector<SegmentIndex>& segments,
                                                 const std::string& what) {
  std::vector<PlacedExtent> placed;
  for (const SegmentIndex& segment : segments) {
    for (const LayerExtent& extent : segment.extents) {
      placed.push_back({extent, segment.checksums.data() + extent.first_checksum_index});
    }
  }
  std::sort(placed.begin(), placed.end(), [](const PlacedExtent& a, const PlacedExtent& b) {
    return a.extent.disk_offset_bytes < b.extent.disk_offset_bytes;
  });
  for (size_t i = 1; i < placed.size(); ++i) {
    if (placed[i - 1].extent.disk_end_bytes() > placed[i].extent.disk_offset_bytes) {
      return overlap(what, "on the disk", placed[i].extent);
    }
  }
  if (Status status = check_file_ranges(placed, what); !status.is_ok()) return status;
  return placed;
}

bool continues(const LayerExtent& previous, const LayerExtent& next) noexcept {
  if (previous.disk_end_bytes() != next.disk_offset_bytes) return false;
  if (previous.is_zero() != next.is_zero()) return false;
  return next.is_zero() || previous.file_end_bytes() == next.file_offset_bytes;
}

std::vector<LayerExtent> joined_extents(const std::vector<PlacedExtent>& placed,
                                        uint32_t granularity_bytes) {
  std::vector<LayerExtent> extents;
  uint64_t checksum_count = 0;
  for (const PlacedExtent& p : placed) {
    if (!extents.empty() && continues(extents.back(), p.extent)) {
      extents.back().length_bytes += p.extent.length_bytes;
    } else {
      extents.push_back(p.extent);
      extents.back().first_checksum_index = checksum_count;
    }
    if (!p.extent.is_zero())
      checksum_count += granules_of(p.extent.length_bytes, granularity_bytes);
  }
  return extents;
}

void append_u32(std::vector<std::byte>& bytes, uint32_t value) {
  bytes.resize(bytes.size() + sizeof value);
  store_le<uint32_t>(bytes.data() + bytes.size() - sizeof value, value);
}

JoinedIndex join(const std::vector<PlacedExtent>& placed, const LayerIdentity& identity) {
  const uint32_t granularity = identity.granularity_bytes;
  const std::vector<LayerExtent> extents = joined_extents(placed, granularity);
  JoinedIndex index;
  index.summary.extent_count = extents.size();
  index.bytes.resize(extents.size() * kLayerExtentBytes);
  uint64_t data_end_bytes = kLayerDataOffset;
  for (size_t i = 0; i < extents.size(); ++i) {
    encode_extent(extents[i], index.bytes.data() + i * kLayerExtentBytes);
    const bool zero = extents[i].is_zero();
    (zero ? index.summary.zero_bytes : index.summary.data_bytes) += extents[i].length_bytes;
    if (!zero) data_end_bytes = std::max(data_end_bytes, extents[i].file_end_bytes());
  }
  for (const PlacedExtent& p : placed) {
    const uint64_t count = p.extent.is_zero() ? 0 : granules_of(p.extent.length_bytes, granularity);
    for (uint64_t i = 0; i < count; ++i) append_u32(index.bytes, p.checksums[i]);
    index.checksum_count += count;
  }
  index.index_offset_bytes = (data_end_bytes + kLayerIndexAlignmentBytes - 1) /
                             kLayerIndexAlignmentBytes * kLayerIndexAlignmentBytes;
  index.summary.checksum =
      crc32c(index.bytes.data(), index.bytes.size(), identity_checksum(identity));
  return index;
}

Result<std::vector<SegmentIndex>> decode_segments(const LayerIdentity& identity,
                                                  std::span<const std::vector<std::byte>> blobs,
                                                  const std::string& what) {
  std::vector<SegmentIndex> segments;
  for (const std::vector<std::byte>& blob : blobs) {
    auto segment = decode_segment_index(blob, identity.disk_size_bytes, what);
    if (!segment.is_ok()) return segment.status();
    if (segment.value().granularity_bytes != identity.granularity_bytes) {
      return Status{ErrorCode::kCorrupt, what + ": because a segment has granularity " +
                                             std::to_string(segment.value().granularity_bytes) +
                                             ", the layer " +
                                             std::to_string(identity.granularity_bytes) + "."};
    }
    segments.push_back(std::move(segment).value());
  }
  return segments;
}

// A layer that was sealed before must not look sealed while its index changes.
Status unseal(int fd, uint64_t file_bytes, const std::string& what) {
  LayerHeaderPage page{};
  const auto there_bytes = static_cast<size_t>(std::min<uint64_t>(file_bytes, page.size()));
  if (Status status = read_whole(fd, 0, std::span(page).first(there_bytes), what);
      !status.is_ok()) {
    return status;
  }
  if (page == LayerHeaderPage{}) return Status::ok();
  if (Status status = write_whole(fd, 0, LayerHeaderPage{}, {}, what); !status.is_ok()) {
    return status;
  }
  return sync_data(fd, what);
}

Status write_index(int fd, const JoinedIndex& index, const std::string& what) {
  const LayerFooterBytes footer =
      encode_footer({index.index_offset_bytes, index.checksum_count, index.summary});
  if (Status status = write_whole(fd, index.index_offset_bytes, index.bytes, footer, what);
      !status.is_ok()) {
    return status;
  }
  const uint64_t file_bytes = index.index_offset_bytes + index.bytes.size() + footer.size();
  if (::ftruncate(fd, static_cast<off_t>(file_bytes)) != 0) {
    return Status::from_errno(what, errno);
  }
  failpoint("layer.seal");
  return sync_data(fd, what);
}

Status write_header(int fd, const LayerIdentity& identity, const JoinedIndex& index,
                    const std::string& what) {
  const uint64_t file_bytes = index.index_offset_bytes + index.bytes.size() + kLayerFooterBytes;
  const LayerHeaderPage page = encode_header({identity, file_bytes, index.summary.checksum});
  failpoint("layer.seal");
  if (Status status = write_whole(fd, 0, page, {}, what); !status.is_ok()) return status;
  failpoint("layer.seal");
  return sync_data(fd, what);
}

Status check_data_is_there(uint64_t file_bytes, const std::vector<PlacedExtent>& placed,
                           const std::string& what) {
  for (const PlacedExtent& p : placed) {
    if (!p.extent.is_zero() && p.extent.file_end_bytes() > file_bytes) {
      return {
          ErrorCode::kTruncated,
          what + ": because the file ends before the data of a segment. Receive the delta again."};
    }
  }
  return Status::ok();
}

Result<LayerSummary> seal_file(const std::string& path, const LayerIdentity& identity,
                               const std::vector<PlacedExtent>& placed, const std::string& what) {
  // Only an empty layer has no file yet.
  const int create = placed.empty() ? O_CREAT : 0;
  const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC | create, 0600));
  if (!fd.is_open()) return Status::from_errno(what, errno);
  struct stat info;
  if (::fstat(fd.get(), &info) != 0) return Status::from_errno(what, errno);
  const auto file_bytes = static_cast<uint64_t>(info.st_size);
  Status status = check_data_is_there(file_bytes, placed, what);
  if (status.is_ok()) status = unseal(fd.get(), file_bytes, what);
  if (!status.is_ok()) return status;
  const JoinedIndex index = join(placed, identity);
  failpoint("layer.seal");
  status = write_index(fd.get(), index, what);
  if (status.is_ok()) status = write_header(fd.get(), identity, index, what);
  if (!status.is_ok()) return status;
  failpoint("layer.seal");
  return index.summary;
}

}  // namespace

Result<LayerSummary> seal_layer(const std::string& path, const LayerIdentity& identity,
                                std::span<const std::vector<std::byte>> index_blobs) {
  const std::string what = "Cannot seal layer " + path;
  if (Status status = check_identity(identity, what); !status.is_ok()) return status;
  const auto segments = decode_segments(identity, index_blobs, what);
  if (!segments.is_ok()) return segments.status();
  const auto placed = placed_extents(segments.value(), what);
  if (!placed.is_ok()) return placed.status();
  return seal_file(path, identity, placed.value(), what);
}

}  // namespace tidemark
