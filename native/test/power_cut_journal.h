// What the guest and the replica of a power cut know, kept where the cut does not
// reach. The oracle: it shares no code with the tracker.
//
// A file of records of 24 bytes, appended with one write() each. Blocks are made of
// their index and the number of the write (its sequence), so that any block that is
// read anywhere says which write it is of, or that it is torn.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <vector>

namespace tidemark::power_cut {

inline constexpr uint64_t kBlockBytes = 4096;
inline constexpr uint64_t kRegionBytes = 64ULL << 20;
inline constexpr uint64_t kRegionCount = 16;
inline constexpr uint64_t kDiskBytes = kRegionCount * kRegionBytes;
inline constexpr uint64_t kRegionBlocks = kRegionBytes / kBlockBytes;
inline constexpr uint64_t kGuests = 4;                              // each with blocks of its own
inline constexpr uint64_t kGuestBlocks = 16;                        // of one guest in one region
inline constexpr uint64_t kWrittenBlocks = kGuests * kGuestBlocks;  // of a region, its first

using Block = std::array<uint64_t, kBlockBytes / sizeof(uint64_t)>;

// Sequence 0: never written, or zeroed.
inline Block block_of(uint64_t index, uint64_t sequence) {
  Block block{};
  if (sequence == 0) return block;
  block[0] = index;
  block[1] = sequence;
  uint64_t state = (index + 1) * 0x9e3779b97f4a7c15 ^ sequence * 0xbf58476d1ce4e5b9;
  for (size_t i = 2; i < block.size(); ++i) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    block[i] = state;
  }
  return block;
}

inline constexpr uint64_t kTorn = UINT64_MAX;

// Of which write a block is; kTorn: of none alone.
inline uint64_t sequence_of(uint64_t index, const Block& block) {
  const uint64_t sequence = block[1];
  return block == block_of(index, sequence) ? sequence : kTorn;
}

enum class RecordKind : uint64_t {
  kAcknowledged,  // block, sequence: the guest's write is done
  kDurable,       // block, sequence: and was asked to be durable (FUA)
  kFlushed,       // block: how many records there were when the flush was asked for
  kSent,          // block, sequence: of the delta that is on its way
  kCommitted,     // block: the number of the commit; the replica holds what was sent
};

struct Record {
  RecordKind kind;
  uint64_t block;
  uint64_t sequence;
};

class Journal {
 public:
  explicit Journal(const std::string& path)
      : fd_(::open(path.c_str(), O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600)) {}
  ~Journal() { ::close(fd_); }
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  void append(const Record& record) {
    const std::lock_guard lock(mutex_);
    if (::write(fd_, &record, sizeof record) == sizeof record) ++record_count_;
  }
  uint64_t record_count() const { return record_count_.load(); }

 private:
  const int fd_;
  std::mutex mutex_;
  std::atomic<uint64_t> record_count_{0};
};

inline std::vector<Record> read_journal(const std::string& path) {
  std::vector<Record> records;
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat found {};
  if (fd >= 0 && ::fstat(fd, &found) == 0) {
    records.resize(static_cast<size_t>(found.st_size) / sizeof(Record));
    const size_t length = records.size() * sizeof(Record);
    if (::pread(fd, records.data(), length, 0) != static_cast<ssize_t>(length)) records.clear();
  }
  if (fd >= 0) ::close(fd);
  return records;
}

using Sequences = std::map<uint64_t, uint64_t>;  // of blocks; 0 for those that are not there

struct Replica {
  Sequences blocks;
  uint64_t commit_count = 0;
};

// What the replica holds after the first commits of these records.
inline Replica replica_after(std::span<const Record> records, uint64_t commit_limit) {
  Replica replica;
  Sequences sent;
  for (const Record& record : records) {
    if (replica.commit_count == commit_limit) break;
    if (record.kind == RecordKind::kSent) sent[record.block] = record.sequence;
    if (record.kind != RecordKind::kCommitted) continue;
    for (const auto& [block, sequence] : sent) replica.blocks[block] = sequence;
    sent.clear();
    ++replica.commit_count;
  }
  return replica;
}

// What must be on the disk, by what the guest was told.
inline Sequences durable_after(std::span<const Record> records) {
  uint64_t covered = 0;
  for (const Record& record : records) {
    if (record.kind == RecordKind::kFlushed) covered = std::max(covered, record.block);
  }
  Sequences durable;
  for (size_t i = 0; i < records.size(); ++i) {
    const bool is_flushed = records[i].kind == RecordKind::kAcknowledged && i < covered;
    if (!is_flushed && records[i].kind != RecordKind::kDurable) continue;
    uint64_t& newest = durable[records[i].block];
    newest = std::max(newest, records[i].sequence);
  }
  return durable;
}

// Up to the commit of this number, with it.
inline std::span<const Record> until_commit(std::span<const Record> records, uint64_t number) {
  size_t end = 0;
  for (size_t i = 0; i < records.size(); ++i) {
    const bool is_commit = records[i].kind == RecordKind::kCommitted;
    if (is_commit && records[i].block <= number) end = i + 1;
  }
  return records.first(end);
}

}  // namespace tidemark::power_cut
