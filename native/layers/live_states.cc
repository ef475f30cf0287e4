#include "layers/live_states.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "common/boot_id.h"
#include "common/byte_order.h"
#include "layers/granule_states.h"

namespace tidemark {

namespace {

constexpr char kMagic[8] = {'T', 'M', 'K', 'L', 'I', 'V', 'E', 'S'};
constexpr uint32_t kVersion = 1;
constexpr size_t kHeaderBytes = 64;
constexpr size_t kPageBytes = GranuleStates::kWordsPerPage * 8;

using Header = std::array<std::byte, kHeaderBytes>;

Header header_of(const Uuid& scratch, uint64_t granule_count) {
  Header header{};
  std::memcpy(header.data(), kMagic, sizeof(kMagic));
  store_le<uint32_t>(header.data() + 8, kVersion);
  const Uuid boot = boot_id();
  std::memcpy(header.data() + 16, boot.bytes.data(), boot.bytes.size());
  std::memcpy(header.data() + 32, scratch.bytes.data(), scratch.bytes.size());
  store_le<uint64_t>(header.data() + 48, granule_count);
  return header;
}

std::string draft_of(const std::string& path) { return path + ".new"; }

bool is_blank(const std::vector<std::byte>& words) {
  return std::all_of(words.begin(), words.end(),
                     [](std::byte byte) { return byte == std::byte{}; });
}

bool read_exactly(int fd, std::byte* to, size_t length_bytes, uint64_t offset_bytes) {
  while (length_bytes > 0) {
    const ssize_t got = ::pread(fd, to, length_bytes, static_cast<off_t>(offset_bytes));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    to += got;
    length_bytes -= static_cast<size_t>(got);
    offset_bytes += static_cast<uint64_t>(got);
  }
  return true;
}

uint64_t page_count_of(uint64_t granule_count) {
  return (granule_count + GranuleStates::kGranulesPerPage - 1) / GranuleStates::kGranulesPerPage;
}

}  // namespace

Result<std::vector<LiveStates::Page>> LiveStates::left_behind(const std::string& path,
                                                              const Uuid& scratch,
                                                              uint64_t granule_count) {
  std::vector<Page> pages;
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.is_open()) {
    if (errno == ENOENT) return pages;
    return Status::from_errno("Cannot read " + path, errno);
  }
  Header header{};
  if (!read_exactly(fd.get(), header.data(), header.size(), 0)) return pages;
  if (boot_id().is_nil() || header != header_of(scratch, granule_count)) return pages;
  for (uint64_t number = 0; number < page_count_of(granule_count); ++number) {
    const uint64_t offset_bytes = kWordsOffsetBytes + number * kPageBytes;
    // What was never stored to is a hole, or has no data.
    const off_t data = ::lseek(fd.get(), static_cast<off_t>(offset_bytes), SEEK_DATA);
    if (data < 0 && errno == ENXIO) break;
    if (data >= static_cast<off_t>(offset_bytes + kPageBytes)) {
      number = (static_cast<uint64_t>(data) - kWordsOffsetBytes) / kPageBytes;
    }
    if (number >= page_count_of(granule_count)) break;
    Page page{number, std::vector<std::byte>(kPageBytes)};
    const uint64_t at = kWordsOffsetBytes + number * kPageBytes;
    if (!read_exactly(fd.get(), page.words.data(), kPageBytes, at)) {
      return Status::from_errno("Cannot read " + path, errno != 0 ? errno : EIO);
    }
    if (!is_blank(page.words)) pages.push_back(std::move(page));
  }
  return pages;
}

Result<LiveStates> LiveStates::create(std::string path, const Uuid& scratch,
                                      uint64_t granule_count) {
  const std::string what = "Cannot keep the scratch's states in " + path;
  UniqueFd fd(::open(draft_of(path).c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!fd.is_open()) return Status::from_errno(what, errno);
  const uint64_t file_bytes = kWordsOffsetBytes + page_count_of(granule_count) * kPageBytes;
  const int error = ::posix_fallocate(fd.get(), 0, static_cast<off_t>(file_bytes));
  if (error != 0) {
    ::unlink(draft_of(path).c_str());
    return Status::from_errno(what, error);
  }
  const Header header = header_of(scratch, granule_count);
  if (::pwrite(fd.get(), header.data(), header.size(), 0) != static_cast<ssize_t>(header.size())) {
    return Status::from_errno(what, errno != 0 ? errno : EIO);
  }
  return LiveStates(std::move(path), std::move(fd));
}

Status LiveStates::publish() {
  if (::rename(draft_of(path_).c_str(), path_.c_str()) == 0) return Status::ok();
  return Status::from_errno("Cannot keep the scratch's states in " + path_, errno);
}

void LiveStates::remove() noexcept { ::unlink(path_.c_str()); }

}  // namespace tidemark
