#include "layers/layer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "common/byte_order.h"
#include "common/crc32c.h"
#include "common/fd.h"
#include "layers/file_io.h"
#include "layers/file_mapping.h"
#include "layers/layer_format.h"
#include "layers/layer_scan.h"

namespace tidemark {

namespace {

Status corrupt(const std::string& what, const std::string& because) {
  return {ErrorCode::kCorrupt,
          what + ": because " + because + ". Fetch this recovery point again or drop it."};
}

// The counts of the footer, the place of the index and the length of the file
// have to agree, without overflow, before anything is read through them.
bool geometry_fits(const LayerFooter& footer, uint64_t file_bytes) noexcept {
  const uint64_t index_end_bytes = file_bytes - kLayerFooterBytes;
  const uint64_t offset_bytes = footer.index_offset_bytes;
  if (offset_bytes < kLayerDataOffset || offset_bytes % kLayerIndexAlignmentBytes != 0 ||
      offset_bytes > index_end_bytes) {
    return false;
  }
  const uint64_t index_bytes = index_end_bytes - offset_bytes;
  if (footer.summary.extent_count > index_bytes / kLayerExtentBytes) return false;
  const uint64_t left_bytes = index_bytes - footer.summary.extent_count * kLayerExtentBytes;
  return left_bytes % kLayerChecksumBytes == 0 &&
         footer.checksum_count == left_bytes / kLayerChecksumBytes;
}

}  // namespace

class Layer::Impl {
 public:
  Impl(UniqueFd fd, const std::string& path)
      : fd_(std::move(fd)), path_(path), what_("Cannot open layer " + path) {}

  Status load(const Uuid& expected_disk);
  Run find(uint64_t disk_offset_bytes, uint64_t max_bytes) const noexcept;
  Status check_index() const;
  LayerExtent extent_at(uint64_t index) const noexcept {
    return decode_extent(index_.bytes().data() + index * kLayerExtentBytes);
  }
  uint32_t checksum_at(uint64_t index) const noexcept;
  uint64_t first_ending_after(uint64_t disk_offset_bytes) const noexcept;

  const std::string& path() const noexcept { return path_; }
  const LayerHeader& header() const noexcept { return header_; }
  const LayerFooter& footer() const noexcept { return footer_; }
  int fd() const noexcept { return fd_.get(); }

 private:
  Status load_header(const Uuid& expected_disk);
  Status load_footer();

  UniqueFd fd_;
  std::string path_;
  std::string what_;
  LayerHeader header_;
  LayerFooter footer_;
  FileMapping index_;  // extents, checksums, footer
};

Status Layer::Impl::load(const Uuid& expected_disk) {
  Status status = load_header(expected_disk);
  if (status.is_ok()) status = load_footer();
  if (!status.is_ok()) return status;
  auto mapping =
      FileMapping::open(fd_.get(), footer_.index_offset_bytes,
                        static_cast<size_t>(header_.file_bytes - footer_.index_offset_bytes));
  if (!mapping.is_ok()) return mapping.status();
  index_ = std::move(mapping).value();
  return check_index();
}

Status Layer::Impl::load_header(const Uuid& expected_disk) {
  struct stat info;
  if (::fstat(fd_.get(), &info) != 0) return Status::from_errno(what_, errno);
  if (!S_ISREG(info.st_mode)) {
    return {ErrorCode::kUnsupported, what_ + ": because it is not a regular file."};
  }
  LayerHeaderPage page;
  if (Status status = read_whole(fd_.get(), 0, page, what_); !status.is_ok()) return status;
  auto header = decode_header(page, what_);
  if (!header.is_ok()) return header.status();
  header_ = header.value();
  const auto file_bytes = static_cast<uint64_t>(info.st_size);
  if (file_bytes < header_.file_bytes) {
    return {ErrorCode::kTruncated, what_ + ": because the file has " + std::to_string(file_bytes) +
                                       " bytes, its header says " +
                                       std::to_string(header_.file_bytes) +
                                       ". Copy it again from where it is whole."};
  }
  if (file_bytes > header_.file_bytes) return corrupt(what_, "something follows its end");
  if (!is_valid_granularity(header_.identity.granularity_bytes) ||
      header_.identity.disk_size_bytes > kLargestDiskBytes ||
      header_.file_bytes < kLayerDataOffset + kLayerFooterBytes) {
    return corrupt(what_, "its header contradicts itself");
  }
  if (header_.identity.disk != expected_disk) {
    return {ErrorCode::kForeign,
            what_ + ": because it is of disk " + header_.identity.disk.to_string() + ", not of " +
                expected_disk.to_string() + ". Put each disk's layers where they belong."};
  }
  return Status::ok();
}

Status Layer::Impl::load_footer() {
  LayerFooterBytes bytes;
  const uint64_t offset_bytes = header_.file_bytes - bytes.size();
  if (Status status = read_whole(fd_.get(), offset_bytes, bytes, what_); !status.is_ok()) {
    return status;
  }
  auto footer = decode_footer(bytes, what_);
  if (!footer.is_ok()) return footer.status();
  footer_ = footer.value();
  if (footer_.summary.checksum != header_.checksum) {
    return corrupt(what_, "its header and its footer are of different layers");
  }
  if (!geometry_fits(footer_, header_.file_bytes)) {
    return corrupt(what_, "its footer contradicts the file's length");
  }
  return Status::ok();
}

Status Layer::Impl::check_index() const {
  const auto covered = index_.bytes().first(index_.bytes().size() - kLayerFooterBytes);
  if (crc32c(covered.data(), covered.size(), identity_checksum(header_.identity)) !=
      header_.checksum) {
    return corrupt(what_, "the checksum of its index does not hold");
  }
  ExtentChecker checker({header_.identity.granularity_bytes, header_.identity.disk_size_bytes,
                         kLayerDataOffset, footer_.index_offset_bytes});
  for (uint64_t i = 0; i < footer_.summary.extent_count; ++i) {
    if (const char* wrong = checker.add(extent_at(i))) return corrupt(what_, wrong);
  }
  if (checker.checksum_count() != footer_.checksum_count ||
      checker.data_bytes() != footer_.summary.data_bytes ||
      checker.zero_bytes() != footer_.summary.zero_bytes) {
    return corrupt(what_, "its footer does not fit its index");
  }
  return Status::ok();
}

uint32_t Layer::Impl::checksum_at(uint64_t index) const noexcept {
  return load_le<uint32_t>(index_.bytes().data() +
                           footer_.summary.extent_count * kLayerExtentBytes +
                           index * kLayerChecksumBytes);
}

uint64_t Layer::Impl::first_ending_after(uint64_t disk_offset_bytes) const noexcept {
  uint64_t low = 0;
  uint64_t high = footer_.summary.extent_count;
  while (low < high) {
    const uint64_t middle = low + (high - low) / 2;
    if (extent_at(middle).disk_end_bytes() <= disk_offset_bytes) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

Layer::Run Layer::Impl::find(uint64_t disk_offset_bytes, uint64_t max_bytes) const noexcept {
  const uint64_t index = first_ending_after(disk_offset_bytes);
  if (index == footer_.summary.extent_count) return {max_bytes, false, false, 0};
  const LayerExtent extent = extent_at(index);
  if (extent.disk_offset_bytes > disk_offset_bytes) {
    return {std::min(max_bytes, extent.disk_offset_bytes - disk_offset_bytes), false, false, 0};
  }
  const uint64_t skipped_bytes = disk_offset_bytes - extent.disk_offset_bytes;
  const uint64_t length_bytes = std::min(max_bytes, extent.length_bytes - skipped_bytes);
  if (extent.is_zero()) return {length_bytes, true, true, 0};
  return {length_bytes, true, false, extent.file_offset_bytes + skipped_bytes};
}

Result<std::shared_ptr<const Layer>> Layer::open(const std::string& path,
                                                 const Uuid& expected_disk) {
  // O_NONBLOCK: a FIFO in a layer's place must not stall the opener.
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.is_open()) return Status::from_errno("Cannot open layer " + path, errno);
  auto impl = std::make_unique<Impl>(std::move(fd), path);
  if (Status status = impl->load(expected_disk); !status.is_ok()) return status;
  return std::shared_ptr<const Layer>(new Layer(std::move(impl)));
}

Layer::Layer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Layer::~Layer() = default;

const LayerIdentity& Layer::identity() const noexcept { return impl_->header().identity; }
const LayerSummary& Layer::summary() const noexcept { return impl_->footer().summary; }
int Layer::fd() const noexcept { return impl_->fd(); }

Layer::Run Layer::find(uint64_t disk_offset_bytes, uint64_t max_bytes) const noexcept {
  return impl_->find(disk_offset_bytes, max_bytes);
}

LayerExtent Layer::extent_at(uint64_t index) const noexcept { return impl_->extent_at(index); }

uint64_t Layer::first_extent_past(uint64_t disk_offset_bytes) const noexcept {
  return impl_->first_ending_after(disk_offset_bytes);
}

uint32_t Layer::checksum_at(uint64_t index) const noexcept { return impl_->checksum_at(index); }

Status Layer::verify() const {
  if (Status status = impl_->check_index(); !status.is_ok()) return status;
  const LayerScan scan = scan_layer(*this, 0, UINT64_MAX);
  if (scan.damaged.empty()) return Status::ok();
  return corrupt("Cannot verify layer " + impl_->path(),
                 "the block at disk offset " + std::to_string(scan.damaged.front().offset_bytes) +
                     " differs from its checksum");
}

}  // namespace tidemark
