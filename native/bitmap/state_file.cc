#include "bitmap/state_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "bitmap/bitmap_layout.h"
#include "common/byte_order.h"
#include "common/crc32c.h"
#include "common/parent_directory.h"
#include "common/sealed_sector.h"

namespace tidemark {

namespace {

constexpr uint64_t kClaimOffset = kSealedSectorBytes;
constexpr uint64_t kBitmapHeaderOffset = 2 * kSealedSectorBytes;
constexpr uint64_t kPagesOffset = 3 * kSealedSectorBytes;
constexpr uint64_t kRecordBytes = 8 + kBitmapPageBytes + 4;
constexpr char kMagic[] = "TMDSTATE";
constexpr char kClaimMagic[] = "TMDCLAIM";
constexpr size_t kMagicBytes = 8;

enum Field : size_t {
  kMagicAt = 0,
  kVersionAt = 8,
  kSealedAt = 12,
  kIdAt = 16,
  kEpochAt = 32,
  kPageCountAt = 40,
  kLiveIndexAt = 48,
  kPagesChecksumAt = 52,
  kAnnexBytesAt = 56,
  kAnnexChecksumAt = 60,
};

enum ClaimField : size_t { kKindAt = 8, kClaimantAt = 16 };

using Record = std::array<std::byte, kRecordBytes>;

Status unusable(const std::string& path, ErrorCode code, const std::string& reason) {
  return {code, "Cannot use the disk state " + path + ": because " + reason +
                    ". Export it again where the disk was, or take it back there."};
}

Status failed(const std::string& path, const char* verb) {
  return Status::from_errno(std::string("Cannot ") + verb + " the disk state " + path, errno);
}

Status write_all(int fd, const std::string& path, uint64_t offset_bytes,
                 std::span<const std::byte> from) {
  const ssize_t written = ::pwrite(fd, from.data(), from.size(), static_cast<off_t>(offset_bytes));
  if (written == static_cast<ssize_t>(from.size())) return Status::ok();
  if (written >= 0) errno = ENOSPC;
  return failed(path, "write");
}

Status read_all(int fd, const std::string& path, uint64_t offset_bytes, std::span<std::byte> into) {
  const ssize_t length = ::pread(fd, into.data(), into.size(), static_cast<off_t>(offset_bytes));
  if (length == static_cast<ssize_t>(into.size())) return Status::ok();
  if (length < 0) return failed(path, "read");
  return unusable(path, ErrorCode::kTruncated, "it ends before its stated end");
}

Status sync(int fd, const std::string& path) {
  return ::fsync(fd) == 0 ? Status::ok() : failed(path, "sync");
}

// Empty, or a state that was never sealed: nobody could import it.
bool is_disposable(int fd) noexcept {
  struct stat found {};
  std::array<std::byte, kIdAt> start{};
  if (::fstat(fd, &found) != 0) return false;
  if (found.st_size == 0) return true;
  return ::pread(fd, start.data(), start.size(), 0) == static_cast<ssize_t>(start.size()) &&
         std::memcmp(start.data(), kMagic, kMagicBytes) == 0 &&
         load_le<uint32_t>(start.data() + kSealedAt) == 0;
}

Record encode_record(uint64_t index, StateFile::Page page) noexcept {
  Record record;
  store_le<uint64_t>(record.data(), index);
  std::memcpy(record.data() + 8, page.data(), kBitmapPageBytes);
  store_le<uint32_t>(record.data() + 8 + kBitmapPageBytes,
                     crc32c(record.data(), 8 + kBitmapPageBytes));
  return record;
}

}  // namespace

Result<StateFile> StateFile::locked(const std::string& path, int flags) {
  UniqueFd fd(::open(path.c_str(), flags | O_RDWR | O_CLOEXEC | O_NONBLOCK, 0600));
  if (!fd.is_open()) return failed(path, "open");
  struct flock whole {};
  whole.l_type = F_WRLCK;
  whole.l_whence = SEEK_SET;
  if (::fcntl(fd.get(), F_OFD_SETLK, &whole) != 0) {
    if (errno != EAGAIN && errno != EACCES) return failed(path, "lock");
    return Status{ErrorCode::kInUse, "Cannot use the disk state " + path +
                                         ": because somebody is using it now. Try again."};
  }
  return StateFile(path, std::move(fd));
}

Result<StateFile> StateFile::write(const std::string& path, const Content& content,
                                   const Pages& pages) {
  Result<StateFile> made = locked(path, O_CREAT);
  if (!made.is_ok()) return made;
  StateFile& state = made.value();
  if (!is_disposable(state.fd_.get())) {
    return Status{ErrorCode::kAlreadyExists, "Cannot write the disk state " + path +
                                                 ": because something bears its name. Name "
                                                 "another file."};
  }
  if (::ftruncate(state.fd_.get(), 0) != 0) return failed(path, "write");
  state.content_ = content;
  // A file that was not written to its end begins as one that is not sealed.
  if (Status status = state.write_header(false); !status.is_ok()) return status;
  Status status = pages([&](uint64_t index, Page page) {
    const Record record = encode_record(index, page);
    const auto checksum = record.data() + 8 + kBitmapPageBytes;
    state.pages_checksum_ = crc32c(checksum, 4, state.pages_checksum_);
    const uint64_t at = kPagesOffset + state.page_count_++ * kRecordBytes;
    return write_all(state.fd_.get(), path, at, record);
  });
  if (status.is_ok()) status = state.write_annex();
  if (!status.is_ok()) return status;
  if (status = write_all(state.fd_.get(), path, kClaimOffset, SealedSector{}); !status.is_ok()) {
    return status;
  }
  status = write_all(state.fd_.get(), path, kBitmapHeaderOffset, content.bitmap.encode());
  if (status.is_ok()) status = state.write_header(false);
  if (status.is_ok()) status = sync(state.fd_.get(), path);
  if (status.is_ok())
    status = sync_parent_directory(path, "Cannot make the disk state " + path + " durable");
  if (!status.is_ok()) return status;
  return made;
}

Status StateFile::write_annex() {
  const auto annex = std::as_bytes(std::span(content_.annex));
  if (annex.size() > kMaxAnnexBytes) {
    return {ErrorCode::kInvalidArgument,
            "Cannot write the disk state " + path_ + ": because what goes with it is too long."};
  }
  annex_bytes_ = annex.size();
  annex_checksum_ = crc32c(annex.data(), annex.size());
  return write_all(fd_.get(), path_, kPagesOffset + page_count_ * kRecordBytes, annex);
}

Status StateFile::write_header(bool is_sealed) {
  SealedSector sector{};
  std::byte* at = sector.data();
  std::memcpy(at + kMagicAt, kMagic, kMagicBytes);
  store_le<uint32_t>(at + kVersionAt, kStateFormatVersion);
  store_le<uint32_t>(at + kSealedAt, is_sealed ? 1 : 0);
  std::memcpy(at + kIdAt, content_.id.bytes.data(), sizeof(Uuid));
  store_le<uint64_t>(at + kEpochAt, content_.epoch);
  store_le<uint64_t>(at + kPageCountAt, page_count_);
  store_le<uint32_t>(at + kLiveIndexAt, content_.live_index);
  store_le<uint32_t>(at + kPagesChecksumAt, pages_checksum_);
  store_le<uint32_t>(at + kAnnexBytesAt, static_cast<uint32_t>(annex_bytes_));
  store_le<uint32_t>(at + kAnnexChecksumAt, annex_checksum_);
  seal_sector(sector);
  return write_all(fd_.get(), path_, 0, sector);
}

Status StateFile::seal() {
  Status status = write_header(true);
  if (status.is_ok()) status = sync(fd_.get(), path_);
  if (status.is_ok()) is_sealed_ = true;
  return status;
}

Status StateFile::set_claim(StateClaim claim, const Uuid& claimant) {
  SealedSector sector{};
  std::memcpy(sector.data(), kClaimMagic, kMagicBytes);
  store_le<uint32_t>(sector.data() + kKindAt, static_cast<uint32_t>(claim));
  std::memcpy(sector.data() + kClaimantAt, claimant.bytes.data(), sizeof(Uuid));
  seal_sector(sector);
  Status status = write_all(fd_.get(), path_, kClaimOffset, sector);
  if (status.is_ok()) status = sync(fd_.get(), path_);
  if (!status.is_ok()) return status;
  claim_ = claim;
  claimant_ = claimant;
  return status;
}

Result<StateFile> StateFile::open(const std::string& path) {
  Result<StateFile> opened = locked(path, 0);
  if (!opened.is_ok()) return opened;
  if (Status status = opened.value().load(); !status.is_ok()) return status;
  return opened;
}

Status StateFile::load_header() {
  SealedSector sector;
  if (Status status = read_all(fd_.get(), path_, 0, sector); !status.is_ok()) return status;
  const std::byte* at = sector.data();
  if (std::memcmp(at, kMagic, kMagicBytes) != 0) {
    return unusable(path_, ErrorCode::kCorrupt, "it does not begin as a disk state does");
  }
  if (!seal_holds(sector)) {
    return unusable(path_, ErrorCode::kCorrupt, "its header's checksum does not hold");
  }
  if (const auto version = load_le<uint32_t>(at + kVersionAt); version != kStateFormatVersion) {
    return unusable(path_, ErrorCode::kVersion,
                    "it has format version " + std::to_string(version) +
                        ", and this build knows version " + std::to_string(kStateFormatVersion));
  }
  is_sealed_ = load_le<uint32_t>(at + kSealedAt) == 1;
  std::memcpy(content_.id.bytes.data(), at + kIdAt, sizeof(Uuid));
  content_.epoch = load_le<uint64_t>(at + kEpochAt);
  page_count_ = load_le<uint64_t>(at + kPageCountAt);
  content_.live_index = load_le<uint32_t>(at + kLiveIndexAt);
  pages_checksum_ = load_le<uint32_t>(at + kPagesChecksumAt);
  annex_bytes_ = load_le<uint32_t>(at + kAnnexBytesAt);
  annex_checksum_ = load_le<uint32_t>(at + kAnnexChecksumAt);
  if (content_.live_index >= kLiveMaps) {
    return unusable(path_, ErrorCode::kCorrupt, "its live index is neither 0 nor 1");
  }
  return Status::ok();
}

Status StateFile::load() {
  if (Status status = load_header(); !status.is_ok()) return status;
  SealedSector sector;
  if (Status status = read_all(fd_.get(), path_, kClaimOffset, sector); !status.is_ok()) {
    return status;
  }
  if (Status status = load_claim(sector); !status.is_ok()) return status;
  if (Status status = read_all(fd_.get(), path_, kBitmapHeaderOffset, sector); !status.is_ok()) {
    return status;
  }
  Result<BitmapHeader> header = BitmapHeader::decode(sector);
  if (!header.is_ok()) {
    return unusable(path_, header.status().code(),
                    "of the bitmap in it: " + header.status().message());
  }
  content_.bitmap = header.value();
  Status status = for_each_page([](uint64_t, Page) { return Status::ok(); });
  return status.is_ok() ? load_annex() : status;
}

// The file is known to hold it: for_each_page() looked at its length.
Status StateFile::load_annex() {
  content_.annex.resize(annex_bytes_);
  const auto into = std::as_writable_bytes(std::span(content_.annex));
  Status status = read_all(fd_.get(), path_, kPagesOffset + page_count_ * kRecordBytes, into);
  if (!status.is_ok()) return status;
  if (crc32c(into.data(), into.size()) == annex_checksum_) return Status::ok();
  return unusable(path_, ErrorCode::kCorrupt, "what was added to it does not hold");
}

// A claim that cannot be read may have been one.
Status StateFile::load_claim(const SealedSector& sector) {
  if (std::all_of(sector.begin(), sector.end(), [](std::byte b) { return b == std::byte{0}; })) {
    return Status::ok();
  }
  const auto kind = load_le<uint32_t>(sector.data() + kKindAt);
  if (std::memcmp(sector.data(), kClaimMagic, kMagicBytes) != 0 || !seal_holds(sector) ||
      kind == 0 || kind > static_cast<uint32_t>(StateClaim::kTakenBack)) {
    return unusable(path_, ErrorCode::kCorrupt, "who has claimed it cannot be read");
  }
  claim_ = static_cast<StateClaim>(kind);
  std::memcpy(claimant_.bytes.data(), sector.data() + kClaimantAt, sizeof(Uuid));
  return Status::ok();
}

Status StateFile::for_each_page(
    const std::function<Status(uint64_t index, Page page)>& take) const {
  const BitmapHeader& header = content_.bitmap;
  const auto layout = BitmapLayout::of(header.disk_size_bytes, header.granularity_bytes);
  struct stat found {};
  if (::fstat(fd_.get(), &found) != 0) return failed(path_, "look at");
  const uint64_t page_limit = layout.file_bytes() / kBitmapPageBytes;
  if (page_count_ > page_limit || annex_bytes_ > kMaxAnnexBytes) {
    return unusable(path_, ErrorCode::kCorrupt, "its header holds impossible numbers");
  }
  const uint64_t stated_bytes = kPagesOffset + page_count_ * kRecordBytes + annex_bytes_;
  const auto size_bytes = static_cast<uint64_t>(found.st_size);
  if (size_bytes != stated_bytes) {
    return unusable(path_, size_bytes < stated_bytes ? ErrorCode::kTruncated : ErrorCode::kCorrupt,
                    "it has " + std::to_string(size_bytes) + " bytes, and its header says " +
                        std::to_string(stated_bytes));
  }
  uint32_t checksum = 0;
  uint64_t next_index = 1;
  Record record;
  for (uint64_t i = 0; i < page_count_; ++i) {
    Status status = read_all(fd_.get(), path_, kPagesOffset + i * kRecordBytes, record);
    if (!status.is_ok()) return status;
    const auto index = load_le<uint64_t>(record.data());
    const std::byte* stored = record.data() + 8 + kBitmapPageBytes;
    if (load_le<uint32_t>(stored) != crc32c(record.data(), 8 + kBitmapPageBytes) ||
        index < next_index || index >= page_limit) {
      return unusable(path_, ErrorCode::kCorrupt, "page " + std::to_string(i) + " does not hold");
    }
    next_index = index + 1;
    checksum = crc32c(stored, 4, checksum);
    status = take(index, Page(record.data() + 8, kBitmapPageBytes));
    if (!status.is_ok()) return status;
  }
  if (checksum == pages_checksum_) return Status::ok();
  return unusable(path_, ErrorCode::kCorrupt, "its pages are not those that were exported");
}

}  // namespace tidemark
