#include "device/owner_record.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>

#include "common/boot_id.h"
#include "common/byte_order.h"
#include "common/failpoint.h"
#include "common/sealed_sector.h"

namespace tidemark {

namespace {

constexpr uint64_t kSharedOffset = 4096;
constexpr uint64_t kFileBytes = 8192;
constexpr off_t kLocksFrom = off_t{1} << 40;  // far behind the content: bytes need not exist
constexpr off_t kLockMask = (off_t{1} << 40) - 1;
constexpr char kMagic[] = "TMDOWNER";
constexpr uint32_t kVersion = 1;
constexpr std::chrono::milliseconds kPoll{1};
// Clocks of two machines do not run at exactly the same speed.
constexpr int kLeaseMarginPercent = 10;

enum Field : size_t {
  kMagicAt = 0,
  kVersionAt = 8,
  kLeaseAt = 12,
  kHolderAt = 16,
  kBootAt = 32,
  kEpochAt = 48,
  kSettledAt = 56,
};

Status failed(const std::string& path, const char* verb) {
  return Status::from_errno(std::string("Cannot ") + verb + " the owner record " + path, errno);
}

struct flock lock_of(uint64_t epoch) noexcept {
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = kLocksFrom + (static_cast<off_t>(epoch) & kLockMask);
  lock.l_len = 1;
  return lock;
}

// Whether the owner of this epoch lives. What cannot be asked counts as living.
bool is_held(int fd, uint64_t epoch) noexcept {
  struct flock lock = lock_of(epoch);
  return ::fcntl(fd, F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

}  // namespace

struct OwnerRecord::Facts {
  uint64_t epoch = 0;
  Uuid holder;
  Uuid boot;
  std::chrono::milliseconds lease{0};
  // False: its owner waits until the lease of the one before has passed, or ended doing so.
  bool is_settled = true;

  // A new file is all zero, and nobody's.
  static Result<Facts> read(int fd, const std::string& path) {
    SealedSector sector{};
    const ssize_t length = ::pread(fd, sector.data(), sector.size(), 0);
    if (length < 0) return failed(path, "read");
    if (std::all_of(sector.begin(), sector.end(), [](std::byte b) { return b == std::byte{0}; })) {
      return Facts{};
    }
    const std::byte* at = sector.data();
    if (std::memcmp(at, kMagic, 8) != 0 || !seal_holds(sector)) {
      return Status{ErrorCode::kCorrupt, "Cannot read the owner record " + path +
                                             ": because it is damaged. Make sure that nobody "
                                             "writes to the disk, and remove it."};
    }
    if (load_le<uint32_t>(at + kVersionAt) != kVersion) {
      return Status{ErrorCode::kVersion, "Cannot read the owner record " + path +
                                             ": because it has another format version. Use the "
                                             "build that made it."};
    }
    Facts facts;
    facts.epoch = load_le<uint64_t>(at + kEpochAt);
    std::memcpy(facts.holder.bytes.data(), at + kHolderAt, sizeof(Uuid));
    std::memcpy(facts.boot.bytes.data(), at + kBootAt, sizeof(Uuid));
    facts.lease = std::chrono::milliseconds(load_le<uint32_t>(at + kLeaseAt));
    facts.is_settled = load_le<uint32_t>(at + kSettledAt) == 1;
    return facts;
  }
};

Status OwnerRecord::open(const std::string& path) {
  path_ = path;
  fd_.reset(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0600));
  if (!fd_.is_open()) return failed(path, "open");
  struct stat found {};
  if (::fstat(fd_.get(), &found) != 0) return failed(path, "look at");
  const auto size_bytes = static_cast<uint64_t>(found.st_size);
  if (size_bytes != 0 && size_bytes != kFileBytes) {
    return {ErrorCode::kCorrupt, "Cannot use the owner record " + path +
                                     ": because it is no such record. Name another file."};
  }
  const int error = ::posix_fallocate(fd_.get(), 0, kFileBytes);
  if (error != 0) return Status::from_errno("Cannot make the owner record " + path, error);
  Result<MappedFile> mapping = MappedFile::map(fd_.get(), kFileBytes);
  if (!mapping.is_ok()) return mapping.status();
  mapping_ = std::move(mapping).value();
  static_assert(sizeof(Shared) <= kFileBytes - kSharedOffset);
  static_assert(std::atomic<uint64_t>::is_always_lock_free);
  shared_ = reinterpret_cast<Shared*>(mapping_.data() + kSharedOffset);
  return Status::ok();
}

Result<std::unique_ptr<OwnerRecord>> OwnerRecord::claim(const Claim& claim) {
  std::unique_ptr<OwnerRecord> record(new OwnerRecord);
  if (Status status = record->open(claim.path); !status.is_ok()) return status;
  if (Status status = record->take(claim); !status.is_ok()) return status;
  return record;
}

Status OwnerRecord::take(const Claim& claim) {
  const Result<Facts> read = Facts::read(fd_.get(), path_);
  if (!read.is_ok()) return read.status();
  const Facts& former = read.value();
  // A take-over that came to no end has raised the word alone.
  const uint64_t highest = std::max(former.epoch, shared_->epoch.load(std::memory_order_acquire));
  const bool is_owned = former.epoch != 0 && is_held(fd_.get(), former.epoch);
  const bool is_contested = highest != former.epoch && is_held(fd_.get(), highest);
  if ((is_owned || is_contested) && !claim.by_force) {
    return {ErrorCode::kInUse,
            "Cannot own the disk of " + path_ +
                ": because another process owns it or is taking it over. Close the disk there, or "
                "take it over."};
  }
  epoch_ = highest + 1;
  struct flock lock = lock_of(epoch_);
  if (::fcntl(fd_.get(), F_OFD_SETLK, &lock) != 0) {
    if (errno != EAGAIN && errno != EACCES) return failed(path_, "lock");
    return {ErrorCode::kInUse, "Cannot own the disk of " + path_ +
                                   ": because somebody else is taking it over. Try again."};
  }
  holder_ = Uuid::random();
  // From here on a former owner of this machine enters no more.
  shared_->epoch.store(epoch_, std::memory_order_seq_cst);
  failpoint("owner.raised");
  if (Status status = wait_for_former(claim, former, is_owned); !status.is_ok()) return status;
  lease_ = claim.lease;
  return write_facts(true);
}

Status OwnerRecord::wait_for_former(const Claim& claim, const Facts& former, bool is_owned) {
  const bool is_elsewhere = former.boot != boot_id() || former.boot.is_nil();
  if (!former.is_settled || (is_owned && is_elsewhere)) {
    // Where the other machine reads it; what it read before is good for a lease at most.
    lease_ = std::max(former.lease, claim.lease);
    if (Status status = write_facts(false); !status.is_ok()) return status;
    std::this_thread::sleep_for(former.lease * (100 + kLeaseMarginPercent) / 100);
  }
  if (!is_owned || is_elsewhere) {
    forget_writes();
    return Status::ok();
  }
  const auto deadline = std::chrono::steady_clock::now() + claim.drain_limit;
  while (has_writes()) {
    if (!is_held(fd_.get(), former.epoch)) {
      forget_writes();  // it has ended, and its writes before it
    } else if (std::chrono::steady_clock::now() >= deadline) {
      return {
          ErrorCode::kTimedOut,
          "Cannot take the disk of " + path_ +
              " over: because writes of its former owner are under way, or its process is "
              "stopped in the middle of one. Let that process go on, or end it, and try again."};
    } else {
      std::this_thread::sleep_for(kPoll);
    }
  }
  return Status::ok();
}

Status OwnerRecord::write_facts(bool is_settled) {
  SealedSector sector{};
  std::byte* at = sector.data();
  const Uuid boot = boot_id();
  std::memcpy(at + kMagicAt, kMagic, 8);
  store_le<uint32_t>(at + kVersionAt, kVersion);
  store_le<uint32_t>(at + kLeaseAt, static_cast<uint32_t>(lease_.count()));
  std::memcpy(at + kHolderAt, holder_.bytes.data(), sizeof(Uuid));
  std::memcpy(at + kBootAt, boot.bytes.data(), sizeof(Uuid));
  store_le<uint64_t>(at + kEpochAt, epoch_);
  store_le<uint32_t>(at + kSettledAt, is_settled ? 1 : 0);
  seal_sector(sector);
  if (::pwrite(fd_.get(), at, sector.size(), 0) != static_cast<ssize_t>(sector.size()) ||
      ::fsync(fd_.get()) != 0) {
    return failed(path_, "write");
  }
  failpoint("owner.written");
  return Status::ok();
}

// Opened anew: network file systems look again then.
Result<bool> OwnerRecord::is_still_ours() const {
  const UniqueFd fd(::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.is_open()) return failed(path_, "open");
  const Result<Facts> facts = Facts::read(fd.get(), path_);
  if (!facts.is_ok()) return facts.status();
  return facts.value().epoch == epoch_ && facts.value().holder == holder_;
}

bool OwnerRecord::enter(uint32_t& shard) noexcept {
  static std::atomic<uint32_t> thread_count{0};
  thread_local const uint32_t of_thread =
      thread_count.fetch_add(1, std::memory_order_relaxed) % kShards;
  shard = of_thread;
  shared_->counts[shard].writes.fetch_add(1, std::memory_order_seq_cst);
  if (shared_->epoch.load(std::memory_order_seq_cst) == epoch_) return true;
  leave(shard);
  return false;
}

void OwnerRecord::leave(uint32_t shard) noexcept {
  shared_->counts[shard].writes.fetch_sub(1, std::memory_order_release);
}

bool OwnerRecord::has_writes() const noexcept {
  return std::any_of(shared_->counts.begin(), shared_->counts.end(), [](const Count& count) {
    return count.writes.load(std::memory_order_seq_cst) != 0;
  });
}

void OwnerRecord::forget_writes() noexcept {
  for (Count& count : shared_->counts) count.writes.store(0, std::memory_order_release);
}

}  // namespace tidemark
