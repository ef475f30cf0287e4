#include "layers/merge_targets.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "common/fd.h"
#include "layers/file_io.h"

namespace tidemark {

namespace {

constexpr size_t kZeroBytes = 1U << 20;

class LayerTarget final : public MergeTarget {
 public:
  LayerTarget(std::string path, const LayerIdentity& identity,
              std::unique_ptr<LayerSegmentWriter> writer)
      : path_(std::move(path)), identity_(identity), writer_(std::move(writer)) {}

  Status data(uint64_t disk_offset_bytes, std::span<const std::byte> bytes) override {
    return writer_->append(disk_offset_bytes, bytes);
  }
  Status zero(uint64_t disk_offset_bytes, uint64_t length_bytes) override {
    return writer_->zero(disk_offset_bytes, length_bytes);
  }
  void begin_writeback() override {}  // it is written past the page cache
  Result<LayerSummary> finish() override {
    auto blob = writer_->finish();
    if (!blob.is_ok()) return blob.status();
    const std::vector<std::byte> blobs[] = {std::move(blob).value()};
    return seal_layer(path_, identity_, blobs);
  }

 private:
  const std::string path_;
  const LayerIdentity identity_;
  const std::unique_ptr<LayerSegmentWriter> writer_;
};

class BaseTarget final : public MergeTarget {
 public:
  BaseTarget(UniqueFd fd, const std::string& path)
      : fd_(std::move(fd)), what_("Cannot merge into " + path) {}

  Status data(uint64_t disk_offset_bytes, std::span<const std::byte> bytes) override {
    summary_.data_bytes += bytes.size();
    return write_whole(fd_.get(), disk_offset_bytes, bytes, {}, what_);
  }
  Status zero(uint64_t disk_offset_bytes, uint64_t length_bytes) override;
  void begin_writeback() override {
    (void)::sync_file_range(fd_.get(), 0, 0, SYNC_FILE_RANGE_WRITE);
  }
  Result<LayerSummary> finish() override {
    if (Status status = sync_data(fd_.get(), what_); !status.is_ok()) return status;
    return summary_;
  }

 private:
  Status write_zeroes(uint64_t disk_offset_bytes, uint64_t length_bytes);

  const UniqueFd fd_;
  const std::string what_;
  LayerSummary summary_;
};

Status BaseTarget::zero(uint64_t disk_offset_bytes, uint64_t length_bytes) {
  summary_.zero_bytes += length_bytes;
  const int result =
      ::fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                  static_cast<off_t>(disk_offset_bytes), static_cast<off_t>(length_bytes));
  if (result == 0) return Status::ok();
  if (errno == EOPNOTSUPP || errno == ENOSYS) return write_zeroes(disk_offset_bytes, length_bytes);
  return Status::from_errno(what_, errno);
}

Status BaseTarget::write_zeroes(uint64_t disk_offset_bytes, uint64_t length_bytes) {
  const std::vector<std::byte> zeroes(std::min<uint64_t>(length_bytes, kZeroBytes));
  while (length_bytes > 0) {
    const auto part = std::span(zeroes).first(std::min<uint64_t>(length_bytes, zeroes.size()));
    if (Status status = write_whole(fd_.get(), disk_offset_bytes, part, {}, what_);
        !status.is_ok()) {
      return status;
    }
    disk_offset_bytes += part.size();
    length_bytes -= part.size();
  }
  return Status::ok();
}

}  // namespace

Result<std::unique_ptr<MergeTarget>> open_layer_target(const std::string& path,
                                                       const LayerIdentity& identity,
                                                       uint64_t data_bytes) {
  auto writer =
      LayerSegmentWriter::open(path, kLayerDataOffset, data_bytes, identity.granularity_bytes);
  if (!writer.is_ok()) return writer.status();
  return std::unique_ptr<MergeTarget>(
      std::make_unique<LayerTarget>(path, identity, std::move(writer).value()));
}

Result<std::unique_ptr<MergeTarget>> open_base_target(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK));
  if (!fd.is_open()) return Status::from_errno("Cannot merge into " + path, errno);
  return std::unique_ptr<MergeTarget>(std::make_unique<BaseTarget>(std::move(fd), path));
}

}  // namespace tidemark
