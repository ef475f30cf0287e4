// Copies what a disk holds at an instant: the file behind a loop device, without
// syncing anything.
//
// A copy takes some milliseconds, and the writes go on. It is still what a power cut at
// its end may leave, as long as the device has answered no flush meanwhile: then every
// write that it took may be there or not, in any order. So a copy during which the
// kernel's count of flushes changed is thrown away. After many of those the writer is
// stopped; what it had under way in the kernel ends, and the copy is made then.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "power_cut_journal.h"

namespace tidemark::power_cut {

struct Cut {
  uint64_t journal_before = 0;  // records, when the copy began
  uint64_t journal_after = 0;   // and when it had ended
  uint64_t attempt_count = 0;
  bool was_stopped = false;
};

class DiskCopier {
 public:
  DiskCopier(const std::string& image, std::string stat_path, std::string journal)
      : fd_(::open(image.c_str(), O_RDONLY | O_CLOEXEC)),
        stat_path_(std::move(stat_path)),
        journal_(std::move(journal)) {
    struct stat found {};
    if (fd_ < 0 || ::fstat(fd_, &found) != 0) return;
    // Touched here, so that no page fault makes the copy longer.
    content_.assign(static_cast<size_t>(found.st_size), std::byte{1});
  }
  ~DiskCopier() { ::close(fd_); }
  DiskCopier(const DiskCopier&) = delete;
  DiskCopier& operator=(const DiskCopier&) = delete;

  std::optional<Cut> cut(pid_t writer, uint64_t seed) {
    constexpr uint64_t kRunningAttempts = 60;
    std::mt19937_64 random(seed);
    for (uint64_t attempt = 1; attempt <= 3 * kRunningAttempts; ++attempt) {
      if (attempt == kRunningAttempts) ::kill(writer, SIGSTOP);
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 30'000));
      if (std::optional<Cut> cut = try_cut()) {
        cut->attempt_count = attempt;
        cut->was_stopped = attempt >= kRunningAttempts;
        ::kill(writer, SIGCONT);
        return cut;
      }
    }
    ::kill(writer, SIGCONT);
    return std::nullopt;
  }

  bool save(const std::string& path) const {
    const int fd = ::open(path.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    bool is_whole = fd >= 0 && ::ftruncate(fd, static_cast<off_t>(content_.size())) == 0;
    for (const auto& [from, length] : extents_) {
      is_whole = is_whole && ::pwrite(fd, content_.data() + from, length,
                                      static_cast<off_t>(from)) == static_cast<ssize_t>(length);
    }
    ::close(fd);
    return is_whole;
  }

 private:
  std::optional<Cut> try_cut() {
    const auto flushes = flush_count();
    Cut cut;
    cut.journal_before = record_count();
    const bool is_read = read_extents();
    cut.journal_after = record_count();
    if (!is_read || !flushes || flush_count() != flushes) return std::nullopt;
    return cut;
  }

  bool read_extents() {
    extents_.clear();
    off_t from = 0;
    while ((from = ::lseek(fd_, from, SEEK_DATA)) >= 0) {
      const off_t end = ::lseek(fd_, from, SEEK_HOLE);
      if (end < 0) return false;
      const auto length = static_cast<size_t>(end - from);
      if (::pread(fd_, content_.data() + from, length, from) != static_cast<ssize_t>(length)) {
        return false;
      }
      extents_.emplace_back(from, length);
      from = end;
    }
    return true;
  }

  // The sixteenth number of the device's statistics.
  std::optional<uint64_t> flush_count() const {
    std::ifstream statistics(stat_path_);
    uint64_t value = 0;
    for (int i = 0; i < 16; ++i) statistics >> value;
    return statistics ? std::optional(value) : std::nullopt;
  }
  uint64_t record_count() const {
    struct stat found {};
    return ::stat(journal_.c_str(), &found) == 0
               ? static_cast<uint64_t>(found.st_size) / sizeof(Record)
               : 0;
  }

  const int fd_;
  const std::string stat_path_;
  const std::string journal_;
  std::vector<std::byte> content_;
  std::vector<std::pair<uint64_t, size_t>> extents_;
};

}  // namespace tidemark::power_cut
