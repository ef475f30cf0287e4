#include "layers/layer_scan.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <span>

#include "common/crc32c.h"
#include "common/fd.h"
#include "layers/file_io.h"

namespace tidemark {

namespace {

constexpr uint64_t kPieceBytes = 1U << 20;

Status read_from_storage(int fd, uint64_t offset_bytes, std::span<std::byte> into,
                         const std::string& what = "Cannot verify") {
  // Advice: where it is not taken, the cache is what is read.
  ::posix_fadvise(fd, static_cast<off_t>(offset_bytes), static_cast<off_t>(into.size()),
                  POSIX_FADV_DONTNEED);
  return read_whole(fd, offset_bytes, into, what);
}

uint64_t whole_blocks(uint64_t length_bytes, uint64_t block_bytes) {
  return (length_bytes + block_bytes - 1) / block_bytes * block_bytes;
}

void add_range(std::vector<DiskRange>& ranges, uint64_t offset_bytes, uint64_t length_bytes) {
  if (!ranges.empty() && ranges.back().offset_bytes + ranges.back().length_bytes == offset_bytes) {
    ranges.back().length_bytes += length_bytes;
  } else {
    ranges.push_back({offset_bytes, length_bytes});
  }
}

class LayerScanner {
 public:
  explicit LayerScanner(const Layer& layer)
      : layer_(layer),
        granularity_(layer.identity().granularity_bytes),
        buffer_(std::max<uint64_t>(kPieceBytes, granularity_)) {}

  // From `skip_bytes` of the extent on; true when all of it was read.
  bool scan(const LayerExtent& extent, uint64_t skip_bytes, uint64_t limit_bytes);

  LayerScan result;

 private:
  void judge(const LayerExtent& extent, uint64_t done_bytes, std::span<const std::byte> piece);
  void judge_one_by_one(const LayerExtent& extent, uint64_t done_bytes, std::span<std::byte> piece);

  const Layer& layer_;
  const uint64_t granularity_;
  std::vector<std::byte> buffer_;
};

void LayerScanner::judge(const LayerExtent& extent, uint64_t done_bytes,
                         std::span<const std::byte> piece) {
  uint64_t checksum_index = extent.first_checksum_index + done_bytes / granularity_;
  for (; !piece.empty(); ++checksum_index) {
    const auto granule = piece.first(std::min<uint64_t>(piece.size(), granularity_));
    if (crc32c(granule.data(), granule.size()) != layer_.checksum_at(checksum_index)) {
      add_range(result.damaged, extent.disk_offset_bytes + done_bytes, granule.size());
    }
    piece = piece.subspan(granule.size());
    done_bytes += granule.size();
  }
}

// Storage that cannot give a piece back may still give some of its granules.
void LayerScanner::judge_one_by_one(const LayerExtent& extent, uint64_t done_bytes,
                                    std::span<std::byte> piece) {
  for (; !piece.empty();) {
    const auto granule = piece.first(std::min<uint64_t>(piece.size(), granularity_));
    if (read_from_storage(layer_.fd(), extent.file_offset_bytes + done_bytes, granule).is_ok()) {
      judge(extent, done_bytes, granule);
    } else {
      add_range(result.damaged, extent.disk_offset_bytes + done_bytes, granule.size());
    }
    piece = piece.subspan(granule.size());
    done_bytes += granule.size();
  }
}

bool LayerScanner::scan(const LayerExtent& extent, uint64_t skip_bytes, uint64_t limit_bytes) {
  for (uint64_t done = skip_bytes; done < extent.length_bytes;) {
    if (result.read_bytes >= limit_bytes) {
      result.next_bytes = extent.disk_offset_bytes + done;
      return false;
    }
    const uint64_t length = std::min<uint64_t>(buffer_.size(), extent.length_bytes - done);
    const std::span<std::byte> piece(buffer_.data(), length);
    if (read_from_storage(layer_.fd(), extent.file_offset_bytes + done, piece).is_ok()) {
      judge(extent, done, piece);
    } else {
      judge_one_by_one(extent, done, piece);
    }
    done += length;
    result.read_bytes += length;
  }
  return true;
}

}  // namespace

LayerScan scan_layer(const Layer& layer, uint64_t from_bytes, uint64_t limit_bytes) {
  LayerScanner scanner(layer);
  from_bytes -= from_bytes % layer.identity().granularity_bytes;
  for (uint64_t i = layer.first_extent_past(from_bytes); i < layer.extent_count(); ++i) {
    const LayerExtent extent = layer.extent_at(i);
    if (extent.is_zero()) continue;
    const uint64_t skip_bytes =
        from_bytes > extent.disk_offset_bytes ? from_bytes - extent.disk_offset_bytes : 0;
    if (!scanner.scan(extent, skip_bytes, limit_bytes)) return std::move(scanner.result);
  }
  scanner.result.next_bytes = layer.identity().disk_size_bytes;
  return std::move(scanner.result);
}

Result<std::vector<uint32_t>> stored_checksums(const Layer& layer, uint64_t offset_bytes,
                                               uint64_t length_bytes) {
  const uint32_t granularity = layer.identity().granularity_bytes;
  const uint64_t index = layer.first_extent_past(offset_bytes);
  const LayerExtent extent = index < layer.extent_count() ? layer.extent_at(index) : LayerExtent{};
  if (extent.is_zero() || offset_bytes < extent.disk_offset_bytes ||
      offset_bytes % granularity != 0 || length_bytes > extent.disk_end_bytes() - offset_bytes) {
    return Status{ErrorCode::kInvalidArgument,
                  "Cannot give checksums: because the range is not that of one extent with data."};
  }
  const uint64_t first =
      extent.first_checksum_index + (offset_bytes - extent.disk_offset_bytes) / granularity;
  const uint64_t count = (length_bytes + granularity - 1) / granularity;
  std::vector<uint32_t> checksums;
  for (uint64_t i = 0; i < count; ++i) checksums.push_back(layer.checksum_at(first + i));
  return checksums;
}

Result<std::vector<uint32_t>> checksum_file(const std::string& path, uint64_t offset_bytes,
                                            uint64_t length_bytes, uint32_t block_bytes) {
  const std::string what = "Cannot verify " + path;
  if (block_bytes == 0) {
    return Status{ErrorCode::kInvalidArgument, what + ": because a block has no length."};
  }
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat info;
  if (!fd.is_open() || ::fstat(fd.get(), &info) != 0) return Status::from_errno(what, errno);
  const auto file_bytes = static_cast<uint64_t>(info.st_size);
  std::vector<uint32_t> checksums;
  std::vector<std::byte> buffer(
      std::max<uint64_t>(block_bytes, kPieceBytes / block_bytes * block_bytes));
  for (uint64_t done = 0; done < length_bytes; done += buffer.size()) {
    const uint64_t at = offset_bytes + done;
    const uint64_t length =
        whole_blocks(std::min<uint64_t>(buffer.size(), length_bytes - done), block_bytes);
    const uint64_t inside = at < file_bytes ? std::min<uint64_t>(length, file_bytes - at) : 0;
    Status status = read_from_storage(fd.get(), at, std::span(buffer).first(inside), what);
    if (!status.is_ok()) return status;
    std::fill(buffer.begin() + static_cast<ptrdiff_t>(inside), buffer.end(), std::byte{0});
    for (uint64_t block = 0; block < length; block += block_bytes) {
      checksums.push_back(crc32c(buffer.data() + block, block_bytes));
    }
  }
  return checksums;
}

}  // namespace tidemark
