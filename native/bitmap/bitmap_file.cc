#include "bitmap/bitmap_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <utility>

#include "common/failpoint.h"

namespace tidemark {

namespace {

constexpr uint64_t kLiveIndexAt = 512;
constexpr uint64_t kHeartbeatAt = 520;

// The complement in the upper half: one flipped bit is no valid index.
constexpr uint64_t live_index_word(uint32_t index) noexcept {
  return index | (static_cast<uint64_t>(~index) << 32);
}

std::atomic_ref<uint64_t> word_at(const MappedFile& mapping, uint64_t offset_bytes) noexcept {
  return std::atomic_ref(*reinterpret_cast<uint64_t*>(mapping.data() + offset_bytes));
}

Status cannot(const char* verb, const std::string& path, Status reason) {
  return {reason.code(),
          std::string("Cannot ") + verb + " the bitmap " + path + ": " + reason.message(),
          reason.sys_errno()};
}

Status cannot(const char* verb, const std::string& path, int sys_errno) {
  return Status::from_errno(std::string("Cannot ") + verb + " the bitmap " + path, sys_errno);
}

// A damaged map says nothing about the disk: the advice is never to start empty.
Status unusable(const std::string& path, Status reason) {
  return {reason.code(), "Cannot open the bitmap " + path + ": because " + reason.message() +
                             ". Move it away, and compare the whole disk with its replicas."};
}

Status in_use(const char* verb, const std::string& path) {
  return {ErrorCode::kInUse,
          std::string("Cannot ") + verb + " the bitmap " + path +
              ": because another service or object holds it. Close that one first.",
          EBUSY};
}

// Of the open file description, so that two objects of one process exclude
// each other as two processes do.
Status lock(int fd, const char* verb, const std::string& path) {
  struct flock whole {};
  whole.l_type = F_WRLCK;
  whole.l_whence = SEEK_SET;
  if (::fcntl(fd, F_OFD_SETLK, &whole) == 0) return Status::ok();
  if (errno != EAGAIN && errno != EACCES) return cannot(verb, path, errno);
  return in_use(verb, path);
}

bool is_named(int fd, const std::string& path) noexcept {
  struct stat opened {};
  struct stat named {};
  return ::fstat(fd, &opened) == 0 && ::stat(path.c_str(), &named) == 0 &&
         opened.st_dev == named.st_dev && opened.st_ino == named.st_ino;
}

Status allocate(int fd, uint64_t offset_bytes, uint64_t length_bytes) {
  int error = EINTR;
  while (error == EINTR) {
    error =
        ::posix_fallocate(fd, static_cast<off_t>(offset_bytes), static_cast<off_t>(length_bytes));
  }
  return error == 0 ? Status::ok() : Status::from_errno("no room for its maps", error);
}

Status write_sector(int fd, const BitmapHeader& header) {
  const BitmapHeader::Sector sector = header.encode();
  const ssize_t written = ::pwrite(fd, sector.data(), sector.size(), 0);
  if (written == static_cast<ssize_t>(sector.size())) return Status::ok();
  return Status::from_errno("its header was not written", written < 0 ? errno : EIO);
}

std::string directory_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

Status sync_directory(const std::string& path) {
  const UniqueFd directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory.is_open() || ::fsync(directory.get()) != 0) {
    return Status::from_errno("its directory " + path + " was not made durable", errno);
  }
  return Status::ok();
}

// A file that has no name until it is complete; where the file system cannot
// do that, one under its final name.
struct NewFile {
  UniqueFd fd;
  bool is_named;
};

NewFile make_file(const std::string& path) {
  const std::string directory = directory_of(path);
  UniqueFd fd(::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (fd.is_open() || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)) {
    return {std::move(fd), false};
  }
  return {UniqueFd(::open(path.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600)), true};
}

Status fill(int fd, const BitmapHeader& header, const BitmapLayout& layout) {
  if (::ftruncate(fd, static_cast<off_t>(layout.file_bytes())) != 0) {
    return Status::from_errno("no room for its maps", errno);
  }
  if (Status status = allocate(fd, 0, layout.slot_offset_bytes(0)); !status.is_ok()) return status;
  if (Status status = write_sector(fd, header); !status.is_ok()) return status;
  const uint64_t word = live_index_word(0);
  if (::pwrite(fd, &word, sizeof word, kLiveIndexAt) != sizeof word || ::fsync(fd) != 0) {
    return Status::from_errno("its header was not written", errno);
  }
  return Status::ok();
}

Status give_name(int fd, const std::string& path) {
  const std::string unnamed = "/proc/self/fd/" + std::to_string(fd);
  if (::linkat(AT_FDCWD, unnamed.c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW) == 0) {
    return Status::ok();
  }
  return Status::from_errno("it could not be given its name", errno);
}

Status complete(const NewFile& file, const std::string& path, const BitmapHeader& header,
                const BitmapLayout& layout) {
  if (Status status = fill(file.fd.get(), header, layout); !status.is_ok()) return status;
  failpoint("bitmap.create");
  if (!file.is_named) {
    if (Status status = give_name(file.fd.get(), path); !status.is_ok()) return status;
  }
  return sync_directory(directory_of(path));
}

Status check_file_size(int fd, uint64_t expected_bytes) {
  struct stat found {};
  if (::fstat(fd, &found) != 0) return Status::from_errno("its size is unknown", errno);
  const auto size_bytes = static_cast<uint64_t>(found.st_size);
  if (size_bytes == expected_bytes) return Status::ok();
  const std::string sizes = "it has " + std::to_string(size_bytes) +
                            " bytes, and its header says " + std::to_string(expected_bytes);
  return {size_bytes < expected_bytes ? ErrorCode::kTruncated : ErrorCode::kCorrupt, sizes};
}

Result<BitmapHeader> read_header(int fd) {
  BitmapHeader::Sector sector;
  const ssize_t length = ::pread(fd, sector.data(), sector.size(), 0);
  if (length < 0) return Status::from_errno("its header was not read", errno);
  return BitmapHeader::decode({sector.data(), static_cast<size_t>(length)});
}

Status allocate_what_is_used(int fd, const BitmapHeader& header, const BitmapLayout& layout) {
  if (Status status = allocate(fd, 0, layout.slot_offset_bytes(0)); !status.is_ok()) return status;
  for (uint32_t slot = 0; slot < kMaxTargets; ++slot) {
    if (header.targets[slot].is_nil()) continue;
    Status status = allocate(fd, layout.slot_offset_bytes(slot), layout.slot_bytes());
    if (!status.is_ok()) return status;
  }
  return Status::ok();
}

void zero_words(std::byte* from, uint64_t length_bytes) noexcept {
  auto* words = reinterpret_cast<uint64_t*>(from);
  for (uint64_t i = 0; i < length_bytes / sizeof(uint64_t); ++i) {
    if (words[i] != 0) words[i] = 0;
  }
}

}  // namespace

BitmapFile::BitmapFile(std::string path, UniqueFd fd, MappedFile mapping,
                       const BitmapHeader& header, const BitmapLayout& layout)
    : path_(std::move(path)),
      fd_(std::move(fd)),
      mapping_(std::move(mapping)),
      header_(header),
      layout_(layout) {}

Result<BitmapFile> BitmapFile::map(const std::string& path, UniqueFd fd,
                                   const BitmapHeader& header) {
  const auto layout = BitmapLayout::of(header.disk_size_bytes, header.granularity_bytes);
  Result<MappedFile> mapping = MappedFile::map(fd.get(), layout.file_bytes());
  if (!mapping.is_ok()) return cannot("open", path, mapping.status());
  return BitmapFile(path, std::move(fd), std::move(mapping).value(), header, layout);
}

Result<BitmapFile> BitmapFile::create(const std::string& path, const BitmapHeader& header) {
  if (::access(path.c_str(), F_OK) == 0) return cannot("create", path, EEXIST);
  NewFile file = make_file(path);
  if (!file.fd.is_open()) return cannot("create", path, errno);
  if (Status status = lock(file.fd.get(), "create", path); !status.is_ok()) return status;
  const auto layout = BitmapLayout::of(header.disk_size_bytes, header.granularity_bytes);
  if (Status status = complete(file, path, header, layout); !status.is_ok()) {
    if (file.is_named) ::unlink(path.c_str());
    return cannot("create", path, status);
  }
  return map(path, std::move(file.fd), header);
}

Result<BitmapFile> BitmapFile::open(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK));
  if (!fd.is_open()) return cannot("open", path, errno);
  if (Status status = lock(fd.get(), "open", path); !status.is_ok()) return status;
  // It was replaced by a grown one between our opening and our locking it.
  if (!is_named(fd.get(), path)) return in_use("open", path);
  const Result<BitmapHeader> header = read_header(fd.get());
  if (!header.is_ok()) return unusable(path, header.status());
  const BitmapHeader& known = header.value();
  const auto layout = BitmapLayout::of(known.disk_size_bytes, known.granularity_bytes);
  if (Status status = check_file_size(fd.get(), layout.file_bytes()); !status.is_ok()) {
    return unusable(path, status);
  }
  if (Status status = allocate_what_is_used(fd.get(), known, layout); !status.is_ok()) {
    return cannot("open", path, status);
  }
  Result<BitmapFile> file = map(path, std::move(fd), known);
  if (file.is_ok() && file.value().live_index() < 0) {
    return unusable(path, {ErrorCode::kCorrupt, "its live index is neither 0 nor 1"});
  }
  return file;
}

void BitmapFile::remove_grown(const std::string& path) noexcept {
  ::unlink(grown_path(path).c_str());
}

Status BitmapFile::replace(const std::string& path) {
  if (::rename(path_.c_str(), path.c_str()) != 0) return cannot("grow", path, errno);
  path_ = path;
  failpoint("bitmap.grow.renamed");
  (void)note(sync_directory(directory_of(path)));
  return Status::ok();
}

Status BitmapFile::write_header(BitmapHeader header) {
  header.sequence = header_.sequence + 1;
  Status status = write_sector(fd_.get(), header);
  if (status.is_ok()) status = sync_everything();
  if (!status.is_ok()) {
    (void)write_sector(fd_.get(), header_);
    return cannot("update", path_, status);
  }
  header_ = header;
  return Status::ok();
}

Status BitmapFile::allocate_slot(uint32_t slot) {
  // A removal that was interrupted may have left content behind.
  if (Status status = release_slot(slot); !status.is_ok()) return status;
  Status status = allocate(fd_.get(), layout_.slot_offset_bytes(slot), layout_.slot_bytes());
  if (status.is_ok()) return status;
  (void)release_slot(slot);
  return cannot("extend", path_, status);
}

Status BitmapFile::release_slot(uint32_t slot) {
  const uint64_t offset_bytes = layout_.slot_offset_bytes(slot);
  if (::fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                  static_cast<off_t>(offset_bytes),
                  static_cast<off_t>(layout_.slot_bytes())) == 0) {
    return Status::ok();
  }
  if (errno != EOPNOTSUPP) return cannot("shrink", path_, errno);
  zero_words(mapping_.data() + offset_bytes, layout_.slot_bytes());
  return Status::ok();
}

BlockMap BitmapFile::map_at(uint64_t offset_bytes) const {
  return {reinterpret_cast<uint64_t*>(mapping_.data() + offset_bytes),
          layout_.map_bytes / sizeof(uint64_t), layout_.block_count};
}

Status BitmapFile::sync(const BlockMap& map, WordRange words) {
  if (words.is_empty()) return Status::ok();
  const auto* first = reinterpret_cast<const std::byte*>(map.words() + words.first);
  return note(mapping_.sync(static_cast<uint64_t>(first - mapping_.data()),
                            (words.end - words.first) * sizeof(uint64_t)));
}

Status BitmapFile::sync_everything() {
  if (::fdatasync(fd_.get()) == 0) return Status::ok();
  return note(Status::from_errno("Cannot make the bitmap " + path_ + " durable", errno));
}

void BitmapFile::close() noexcept {
  // By name: the mapping keeps the open file description, and so the lock, alive.
  struct flock whole {};
  whole.l_type = F_UNLCK;
  whole.l_whence = SEEK_SET;
  if (fd_.is_open()) ::fcntl(fd_.get(), F_OFD_SETLK, &whole);
  fd_.reset();
}

Status BitmapFile::note(Status status) noexcept {
  if (!status.is_ok()) sync_has_failed_ = true;
  return status;
}

int BitmapFile::live_index() const noexcept {
  const uint64_t word = word_at(mapping_, kLiveIndexAt).load(std::memory_order_acquire);
  for (uint32_t index = 0; index < kLiveMaps; ++index) {
    if (word == live_index_word(index)) return static_cast<int>(index);
  }
  return -1;
}

void BitmapFile::store_live_index(uint32_t index) noexcept {
  word_at(mapping_, kLiveIndexAt).store(live_index_word(index), std::memory_order_release);
}

void BitmapFile::store_heartbeat() noexcept {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  const auto now_ms =
      static_cast<uint64_t>(now.tv_sec) * 1000 + static_cast<uint64_t>(now.tv_nsec) / 1'000'000;
  word_at(mapping_, kHeartbeatAt).store(now_ms, std::memory_order_relaxed);
}

}  // namespace tidemark
