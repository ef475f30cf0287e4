// LayerSegmentWriter: see layer.h.

#include <algorithm>

#include "common/crc32c.h"
#include "common/failpoint.h"
#include "layers/layer.h"
#include "layers/layer_format.h"
#include "layers/region_writer.h"
#include "layers/segment_extents.h"

namespace tidemark {

class LayerSegmentWriter::Impl {
 public:
  Impl(RegionWriter file, const std::string& path, uint64_t region_offset_bytes,
       uint64_t capacity_bytes, uint32_t granularity_bytes)
      : file_(std::move(file)), path_(path), extents_(granularity_bytes) {
    index_.region_offset_bytes = region_offset_bytes;
    index_.capacity_bytes = capacity_bytes;
    index_.granularity_bytes = granularity_bytes;
  }

  Status append(uint64_t disk_offset_bytes, std::span<const std::byte> data);
  Status zero(uint64_t disk_offset_bytes, uint64_t length_bytes);
  Result<std::vector<std::byte>> finish();

 private:
  Status check(uint64_t disk_offset_bytes, uint64_t length_bytes) const;
  void add_checksums(std::span<const std::byte> data);

  RegionWriter file_;
  std::string path_;
  SegmentExtents extents_;
  SegmentIndex index_;  // its extents are filled in by finish()
  uint64_t appended_bytes_ = 0;
  Status failure_;  // of a write; what follows it would leave a gap
  bool finished_ = false;
};

Status LayerSegmentWriter::Impl::check(uint64_t disk_offset_bytes, uint64_t length_bytes) const {
  if (finished_) {
    return {ErrorCode::kClosed, "Cannot write segment of " + path_ + ": because it is finished."};
  }
  if (!failure_.is_ok()) return failure_;
  if (const char* wrong = extents_.check(disk_offset_bytes, length_bytes)) {
    return {ErrorCode::kInvalidArgument, "Cannot write segment of " + path_ + ": because " + wrong +
                                             ", at disk offset " +
                                             std::to_string(disk_offset_bytes) + "."};
  }
  return Status::ok();
}

void LayerSegmentWriter::Impl::add_checksums(std::span<const std::byte> data) {
  while (!data.empty()) {
    const size_t length_bytes = std::min<size_t>(data.size(), index_.granularity_bytes);
    index_.checksums.push_back(crc32c(data.data(), length_bytes));
    data = data.subspan(length_bytes);
  }
}

Status LayerSegmentWriter::Impl::append(uint64_t disk_offset_bytes,
                                        std::span<const std::byte> data) {
  if (Status status = check(disk_offset_bytes, data.size()); !status.is_ok()) return status;
  if (data.size() > index_.capacity_bytes - appended_bytes_) {
    return {ErrorCode::kInvalidArgument, "Cannot write segment of " + path_ +
                                             ": because it has more data than its region of " +
                                             std::to_string(index_.capacity_bytes) + " bytes."};
  }
  failpoint("layer.append");
  const uint64_t file_offset_bytes = index_.region_offset_bytes + appended_bytes_;
  const uint64_t first_checksum_index = index_.checksums.size();
  failure_ = file_.append(data);
  if (!failure_.is_ok()) return failure_;
  appended_bytes_ += data.size();
  add_checksums(data);
  extents_.add({disk_offset_bytes, data.size(), file_offset_bytes, first_checksum_index});
  return Status::ok();
}

Status LayerSegmentWriter::Impl::zero(uint64_t disk_offset_bytes, uint64_t length_bytes) {
  if (Status status = check(disk_offset_bytes, length_bytes); !status.is_ok()) return status;
  extents_.add({disk_offset_bytes, length_bytes, 0, 0});
  return Status::ok();
}

Result<std::vector<std::byte>> LayerSegmentWriter::Impl::finish() {
  if (finished_) {
    return Status{ErrorCode::kClosed,
                  "Cannot finish segment of " + path_ + ": because it is finished."};
  }
  finished_ = true;
  if (!failure_.is_ok()) return failure_;
  failpoint("layer.sync");
  if (Status status = file_.finish(); !status.is_ok()) return status;
  failpoint("layer.sync");
  index_.extents = extents_.sorted();
  return encode_segment_index(index_);
}

Result<std::unique_ptr<LayerSegmentWriter>> LayerSegmentWriter::open(const std::string& path,
                                                                     uint64_t region_offset_bytes,
                                                                     uint64_t capacity_bytes,
                                                                     uint32_t granularity_bytes) {
  if (region_offset_bytes < kLayerDataOffset || region_offset_bytes > kLargestDiskBytes ||
      capacity_bytes > kLargestDiskBytes - region_offset_bytes) {
    return Status{ErrorCode::kInvalidArgument, "Cannot write segment of " + path +
                                                   ": because its region is not in the data area."};
  }
  if (!is_valid_granularity(granularity_bytes)) {
    return Status{ErrorCode::kInvalidArgument, "Cannot write segment of " + path +
                                                   ": because granularity " +
                                                   std::to_string(granularity_bytes) +
                                                   " is no power of two from 512 B to 64 MiB."};
  }
  auto file = RegionWriter::open(path, region_offset_bytes, "Cannot write segment of " + path);
  if (!file.is_ok()) return file.status();
  return std::unique_ptr<LayerSegmentWriter>(new LayerSegmentWriter(std::make_unique<Impl>(
      std::move(file).value(), path, region_offset_bytes, capacity_bytes, granularity_bytes)));
}

LayerSegmentWriter::LayerSegmentWriter(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
LayerSegmentWriter::~LayerSegmentWriter() = default;

Status LayerSegmentWriter::append(uint64_t disk_offset_bytes, std::span<const std::byte> data) {
  return impl_->append(disk_offset_bytes, data);
}

Status LayerSegmentWriter::zero(uint64_t disk_offset_bytes, uint64_t length_bytes) {
  return impl_->zero(disk_offset_bytes, length_bytes);
}

Result<std::vector<std::byte>> LayerSegmentWriter::finish() { return impl_->finish(); }

}  // namespace tidemark
