// Reads the log of the kernel's dm-log-writes (its documentation describes the format)
// and brings a device to the state that the first entries of it make.
//
// Layout: a sector with the number of entries and the size of a sector, then each entry
// in a sector of its own, its data behind it. Writes are in the log once a flush that
// came after them was answered; so the first n entries are what a power cut may leave,
// for any n.
#pragma once

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace tidemark::power_cut {

struct LogEntry {
  enum Flag : uint64_t { kFlush = 1, kFua = 2, kDiscard = 4, kMark = 8 };
  uint64_t flags = 0;
  uint64_t to_bytes = 0;
  uint64_t length_bytes = 0;
  uint64_t data_at_bytes = 0;  // in the log
  std::string mark;
};

class DmWriteLog {
 public:
  explicit DmWriteLog(const std::string& path) : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {}
  ~DmWriteLog() { ::close(fd_); }
  DmWriteLog(const DmWriteLog&) = delete;
  DmWriteLog& operator=(const DmWriteLog&) = delete;

  bool load() {
    struct {
      uint64_t magic, version, entry_count;
      uint32_t sector_bytes;
    } super{};
    if (::pread(fd_, &super, sizeof super, 0) != sizeof super) return false;
    if (super.magic != 0x6a736677736872ULL || super.version != 1) return false;
    sector_bytes_ = super.sector_bytes;
    uint64_t at = sector_bytes_;
    for (uint64_t i = 0; i < super.entry_count; ++i) {
      if (!load_entry(at)) return false;
    }
    return true;
  }
  const std::vector<LogEntry>& entries() const { return entries_; }

  // What the target held before the log began is zeroes.
  bool replay(const std::string& target, uint64_t target_bytes, size_t entry_count) const {
    const int fd = ::open(target.c_str(), O_RDWR | O_CLOEXEC);
    bool is_done = fd >= 0 && zero(fd, 0, target_bytes);
    for (size_t i = 0; is_done && i < entry_count; ++i) is_done = apply(fd, entries_[i]);
    is_done = is_done && ::fsync(fd) == 0;
    ::close(fd);
    return is_done;
  }

 private:
  struct OnDisk {
    uint64_t sector, sector_count, flags, data_bytes;
  };

  bool load_entry(uint64_t& at) {
    std::vector<char> sector(sector_bytes_);
    if (::pread(fd_, sector.data(), sector.size(), static_cast<off_t>(at)) !=
        static_cast<ssize_t>(sector.size())) {
      return false;
    }
    OnDisk found;
    std::memcpy(&found, sector.data(), sizeof found);
    LogEntry entry{found.flags,
                   found.sector * sector_bytes_,
                   found.sector_count * sector_bytes_,
                   at + sector_bytes_,
                   {}};
    if ((entry.flags & LogEntry::kMark) != 0 && found.data_bytes < sector_bytes_ - sizeof found) {
      entry.mark = std::string(sector.data() + sizeof found, found.data_bytes).c_str();
    }
    const bool has_data = (entry.flags & (LogEntry::kDiscard | LogEntry::kMark)) == 0;
    at += sector_bytes_ + (has_data ? entry.length_bytes : 0);
    entries_.push_back(entry);
    return true;
  }

  static bool zero(int fd, uint64_t from_bytes, uint64_t length_bytes) {
    uint64_t range[2] = {from_bytes, length_bytes};
    return length_bytes == 0 || ::ioctl(fd, BLKZEROOUT, range) == 0;
  }

  bool apply(int fd, const LogEntry& entry) const {
    if ((entry.flags & LogEntry::kMark) != 0 || entry.length_bytes == 0) return true;
    if ((entry.flags & LogEntry::kDiscard) != 0) {
      return zero(fd, entry.to_bytes, entry.length_bytes);
    }
    std::vector<char> data(entry.length_bytes);
    const auto length = static_cast<ssize_t>(data.size());
    return ::pread(fd_, data.data(), data.size(), static_cast<off_t>(entry.data_at_bytes)) ==
               length &&
           ::pwrite(fd, data.data(), data.size(), static_cast<off_t>(entry.to_bytes)) == length;
  }

  const int fd_;
  uint64_t sector_bytes_ = 512;
  std::vector<LogEntry> entries_;
};

}  // namespace tidemark::power_cut
