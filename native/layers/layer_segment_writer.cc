// LayerSegmentWriter: see layer.h.

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "common/crc32c.h"
#include "common/failpoint.h"
#include "common/fd.h"
#include "layers/file_io.h"
#include "layers/layer.h"
#include "layers/layer_format.h"
#include "layers/segment_extents.h"

namespace tidemark {

namespace {

// Many small appends become one system call.
constexpr size_t kBufferBytes = 1U << 20;

}  // namespace

class LayerSegmentWriter::Impl {
 public:
  Impl(UniqueFd fd, const std::string& path, uint64_t region_offset_bytes, uint64_t capacity_bytes,
       uint32_t granularity_bytes)
      : fd_(std::move(fd)), path_(path), extents_(granularity_bytes) {
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
  Status write_out(std::span<const std::byte> data);

  UniqueFd fd_;
  std::string path_;
  SegmentExtents extents_;
  SegmentIndex index_;             // its extents are filled in by finish()
  std::vector<std::byte> buffer_;  // what is appended and not yet in the file
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

// Everything buffered and then `data` go to the file.
Status LayerSegmentWriter::Impl::write_out(std::span<const std::byte> data) {
  const uint64_t buffered_offset_bytes =
      index_.region_offset_bytes + appended_bytes_ - buffer_.size();
  failure_ = write_whole(fd_.get(), buffered_offset_bytes, buffer_, data,
                         "Cannot write segment of " + path_);
  buffer_.clear();
  return failure_;
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
  if (buffer_.size() + data.size() > kBufferBytes) {
    if (Status status = write_out(data); !status.is_ok()) return status;
  } else {
    buffer_.insert(buffer_.end(), data.begin(), data.end());
  }
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
  if (failure_.is_ok()) (void)write_out({});
  if (!failure_.is_ok()) return failure_;
  failpoint("layer.sync");
  if (Status status = sync_data(fd_.get(), "Cannot sync segment of " + path_); !status.is_ok()) {
    return status;
  }
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
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!fd.is_open()) return Status::from_errno("Cannot open layer " + path, errno);
  return std::unique_ptr<LayerSegmentWriter>(new LayerSegmentWriter(std::make_unique<Impl>(
      std::move(fd), path, region_offset_bytes, capacity_bytes, granularity_bytes)));
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
