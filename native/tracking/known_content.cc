#include "tracking/known_content.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "common/boot_id.h"
#include "common/byte_order.h"
#include "common/failpoint.h"
#include "common/sealed_sector.h"

namespace tidemark {

namespace {

constexpr char kMagic[8] = {'T', 'M', 'K', 'K', 'N', 'O', 'W', 'N'};
constexpr uint32_t kFormatVersion = 1;
constexpr uint64_t kEntriesAt = 4096;

struct Header {
  KnownDisk disk;
  Uuid boot;
  Uuid point;
  HashSalt salt{};
};

template <typename T>
void put(std::span<std::byte> at, const T& sixteen) {
  static_assert(sizeof sixteen == 16);
  std::memcpy(at.data(), &sixteen, sizeof sixteen);
}

template <typename T>
T take(std::span<const std::byte> at) {
  T sixteen;
  std::memcpy(&sixteen, at.data(), sizeof sixteen);
  return sixteen;
}

SealedSector encode(const Header& header) {
  SealedSector sector{};
  const std::span<std::byte> at(sector);
  std::memcpy(at.data(), kMagic, sizeof kMagic);
  store_le<uint32_t>(at.data() + 8, kFormatVersion);
  store_le<uint32_t>(at.data() + 12, header.disk.granularity_bytes);
  store_le<uint64_t>(at.data() + 16, header.disk.size_bytes);
  put(at.subspan(24), header.disk.disk.bytes);
  put(at.subspan(40), header.boot.bytes);
  put(at.subspan(56), header.point.bytes);
  put(at.subspan(72), header.salt);
  seal_sector(sector);
  return sector;
}

// False: it is of no use, whatever it is.
bool decode(const SealedSector& sector, Header& header) {
  const std::span<const std::byte> at(sector);
  if (!seal_holds(sector) || std::memcmp(at.data(), kMagic, sizeof kMagic) != 0 ||
      load_le<uint32_t>(at.data() + 8) != kFormatVersion) {
    return false;
  }
  header.disk.granularity_bytes = load_le<uint32_t>(at.data() + 12);
  header.disk.size_bytes = load_le<uint64_t>(at.data() + 16);
  header.disk.disk.bytes = take<decltype(Uuid::bytes)>(at.subspan(24));
  header.boot.bytes = take<decltype(Uuid::bytes)>(at.subspan(40));
  header.point.bytes = take<decltype(Uuid::bytes)>(at.subspan(56));
  header.salt = take<HashSalt>(at.subspan(72));
  return true;
}

uint64_t place_of(uint64_t block) { return kEntriesAt + block * sizeof(BlockHash); }

HashSalt new_salt() {
  static_assert(sizeof(HashSalt) == sizeof(Uuid::bytes));
  const Uuid random = Uuid::random();
  return take<HashSalt>(std::as_bytes(std::span(random.bytes)));
}

}  // namespace

KnownContent::KnownContent(std::string path, UniqueFd fd, const KnownDisk& disk)
    : path_(std::move(path)), fd_(std::move(fd)), disk_(disk) {}

Result<std::shared_ptr<KnownContent>> KnownContent::open(const std::string& path,
                                                         const KnownDisk& disk) {
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd.is_open()) return Status::from_errno("Cannot open " + path, errno);
  std::shared_ptr<KnownContent> content(new KnownContent(path, std::move(fd), disk));
  if (content->load()) return content;
  if (Status status = content->clear(); !status.is_ok()) return status;
  return content;
}

bool KnownContent::load() {
  SealedSector sector;
  const ssize_t length = ::pread(fd_.get(), sector.data(), sector.size(), 0);
  Header header;
  if (length != static_cast<ssize_t>(sector.size()) || !decode(sector, header)) return false;
  const Uuid boot = boot_id();
  const bool is_ours = header.disk == disk_ && !boot.is_nil() && header.boot == boot;
  if (!is_ours || header.point.is_nil()) return false;
  salt_ = header.salt;
  point_ = header.point;
  return true;
}

Status KnownContent::read(uint64_t first_block, std::span<BlockHash> into) const {
  std::ranges::fill(into, kUnknownHash);
  std::span<std::byte> left = std::as_writable_bytes(into);
  uint64_t at = place_of(first_block);
  while (!left.empty()) {
    const ssize_t length = ::pread(fd_.get(), left.data(), left.size(), static_cast<off_t>(at));
    if (length < 0 && errno == EINTR) continue;
    if (length < 0) return Status::from_errno("Cannot read " + path_, errno);
    // Past its end nothing is known.
    if (length == 0) return Status::ok();
    left = left.subspan(static_cast<size_t>(length));
    at += static_cast<uint64_t>(length);
  }
  return Status::ok();
}

Status KnownContent::advance(const Uuid& point, const BlockHashRuns& changed) {
  if (is_torn_) return clear();
  is_torn_ = true;
  Status status = replace(point, changed);
  is_torn_ = !status.is_ok();
  if (is_torn_) point_ = {};
  return status;
}

Status KnownContent::replace(const Uuid& point, const BlockHashRuns& changed) {
  if (Status status = write_header({}); !status.is_ok()) return status;
  failpoint("known-none");
  for (const auto& [first_block, hashes] : changed) {
    const auto bytes = std::as_bytes(std::span(hashes));
    if (Status status = write(place_of(first_block), bytes); !status.is_ok()) return status;
    failpoint("known-some");
  }
  if (changed.empty()) return write_header(point);
  // Not for the order: an entry that the kernel could not write back would be read again
  // as it was, and only this says so.
  if (::fdatasync(fd_.get()) != 0) return Status::from_errno("Cannot sync " + path_, errno);
  failpoint("known-all");
  return write_header(point);
}

Status KnownContent::clear() {
  point_ = {};
  is_torn_ = true;
  if (::ftruncate(fd_.get(), 0) != 0) return Status::from_errno("Cannot empty " + path_, errno);
  is_torn_ = false;
  salt_ = new_salt();
  return write_header({});
}

Status KnownContent::write_header(const Uuid& point) {
  const SealedSector sector = encode({disk_, boot_id(), point, salt_});
  if (Status status = write(0, sector); !status.is_ok()) return status;
  point_ = point;
  return Status::ok();
}

Status KnownContent::write(uint64_t offset_bytes, std::span<const std::byte> from) {
  while (!from.empty()) {
    const ssize_t length =
        ::pwrite(fd_.get(), from.data(), from.size(), static_cast<off_t>(offset_bytes));
    if (length < 0 && errno == EINTR) continue;
    if (length < 0) return Status::from_errno("Cannot write " + path_, errno);
    from = from.subspan(static_cast<size_t>(length));
    offset_bytes += static_cast<uint64_t>(length);
  }
  return Status::ok();
}

}  // namespace tidemark
