#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <utility>

#include "bitmap/bitmap_storage.h"
#include "common/boot_id.h"
#include "common/fd.h"
#include "common/mapped_file.h"
#include "common/parent_directory.h"

namespace tidemark {

namespace {

constexpr uint64_t kPageWords = 4096 / sizeof(uint64_t);

Status failed(const char* what) { return Status::from_errno(what, errno); }

// Of the open file description, so that two objects of one process exclude
// each other as two processes do.
Status lock(int fd) {
  struct flock whole {};
  whole.l_type = F_WRLCK;
  whole.l_whence = SEEK_SET;
  if (::fcntl(fd, F_OFD_SETLK, &whole) == 0) return Status::ok();
  if (errno == EAGAIN || errno == EACCES) errno = EBUSY;
  return failed("it was not locked");
}

bool is_named(int fd, const std::string& path) noexcept {
  struct stat opened {};
  struct stat named {};
  return ::fstat(fd, &opened) == 0 && ::stat(path.c_str(), &named) == 0 &&
         opened.st_dev == named.st_dev && opened.st_ino == named.st_ino;
}

void zero_words(std::byte* from, uint64_t length_bytes) noexcept {
  auto* words = reinterpret_cast<uint64_t*>(from);
  for (uint64_t i = 0; i < length_bytes / sizeof(uint64_t); ++i) {
    if (words[i] != 0) words[i] = 0;
  }
}

class HostFile final : public BitmapStorage::File {
 public:
  explicit HostFile(UniqueFd fd) : fd_(std::move(fd)) {}
  HostFile(const HostFile&) = delete;
  HostFile& operator=(const HostFile&) = delete;
  ~HostFile() override {
    if (has_early_name_) ::unlink(unpublished_path_.c_str());
  }

  // Until published: the name to come, which the file has already where the file
  // system knows none without.
  void set_unpublished(const std::string& path, bool has_early_name) {
    unpublished_path_ = path;
    has_early_name_ = has_early_name;
  }
  Status publish();

  Result<uint64_t> size_bytes() const override;
  Status set_size(uint64_t size_bytes) override;
  Status allocate(uint64_t offset_bytes, uint64_t length_bytes) override;
  Status release(uint64_t offset_bytes, uint64_t length_bytes) override;
  Result<size_t> read(uint64_t offset_bytes, std::span<std::byte> into) const override;
  Status write(uint64_t offset_bytes, std::span<const std::byte> from) override;
  Status map() override;
  std::byte* data() const noexcept override { return mapping_.data(); }
  void renew(uint64_t offset_bytes, uint64_t length_bytes) noexcept override;
  Status sync(uint64_t offset_bytes, uint64_t length_bytes) override;
  Status sync_all() override;
  Status sync_log(uint64_t offset_bytes, uint64_t length_bytes) override {
    return kept_if_failed(log_mapping_.sync(offset_bytes, length_bytes));
  }
  bool is_locked() const noexcept override { return fd_.is_open(); }
  void unlock() noexcept override;

 private:
  Status kept_if_failed(Status status) noexcept;

  UniqueFd fd_;
  MappedFile mapping_;
  // By an open file of its own: the kernel tells each of those of a failed write-back once.
  MappedFile log_mapping_;
  std::string unpublished_path_;
  bool has_early_name_ = false;
};

Status HostFile::publish() {
  if (!has_early_name_) {
    const std::string unnamed = "/proc/self/fd/" + std::to_string(fd_.get());
    if (::linkat(AT_FDCWD, unnamed.c_str(), AT_FDCWD, unpublished_path_.c_str(),
                 AT_SYMLINK_FOLLOW) != 0) {
      return failed("it could not be given its name");
    }
  }
  has_early_name_ = false;
  return Status::ok();
}

Result<uint64_t> HostFile::size_bytes() const {
  struct stat found {};
  if (::fstat(fd_.get(), &found) != 0) return failed("its size is unknown");
  return static_cast<uint64_t>(found.st_size);
}

Status HostFile::set_size(uint64_t size_bytes) {
  if (::ftruncate(fd_.get(), static_cast<off_t>(size_bytes)) == 0) return Status::ok();
  return failed("no room for its maps");
}

Status HostFile::allocate(uint64_t offset_bytes, uint64_t length_bytes) {
  int error = EINTR;
  while (error == EINTR) {
    error = ::posix_fallocate(fd_.get(), static_cast<off_t>(offset_bytes),
                              static_cast<off_t>(length_bytes));
  }
  return error == 0 ? Status::ok() : Status::from_errno("no room for its maps", error);
}

Status HostFile::release(uint64_t offset_bytes, uint64_t length_bytes) {
  if (::fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                  static_cast<off_t>(offset_bytes), static_cast<off_t>(length_bytes)) == 0) {
    return Status::ok();
  }
  if (errno != EOPNOTSUPP || mapping_.data() == nullptr) return failed("its room was not released");
  zero_words(mapping_.data() + offset_bytes, length_bytes);
  return Status::ok();
}

Result<size_t> HostFile::read(uint64_t offset_bytes, std::span<std::byte> into) const {
  const ssize_t length =
      ::pread(fd_.get(), into.data(), into.size(), static_cast<off_t>(offset_bytes));
  if (length < 0) return failed("its header was not read");
  return static_cast<size_t>(length);
}

Status HostFile::write(uint64_t offset_bytes, std::span<const std::byte> from) {
  const ssize_t written =
      ::pwrite(fd_.get(), from.data(), from.size(), static_cast<off_t>(offset_bytes));
  if (written == static_cast<ssize_t>(from.size())) return Status::ok();
  return Status::from_errno("its header was not written", written < 0 ? errno : EIO);
}

Status HostFile::map() {
  const Result<uint64_t> length_bytes = size_bytes();
  if (!length_bytes.is_ok()) return length_bytes.status();
  Result<MappedFile> mapping = MappedFile::map(fd_.get(), length_bytes.value());
  if (!mapping.is_ok()) return mapping.status();
  mapping_ = std::move(mapping).value();
  const std::string again = "/proc/self/fd/" + std::to_string(fd_.get());
  const UniqueFd second(::open(again.c_str(), O_RDWR | O_CLOEXEC));
  if (!second.is_open()) return failed("it was not opened a second time");
  mapping = MappedFile::map(second.get(), kLogSyncBytes);
  if (!mapping.is_ok()) return mapping.status();
  log_mapping_ = std::move(mapping).value();
  return Status::ok();
}

void HostFile::renew(uint64_t offset_bytes, uint64_t length_bytes) noexcept {
  auto* words = reinterpret_cast<uint64_t*>(mapping_.data());
  const uint64_t end = (offset_bytes + length_bytes) / sizeof(uint64_t);
  for (uint64_t word = offset_bytes / sizeof(uint64_t); word < end;) {
    const uint64_t next_page = (word / kPageWords + 1) * kPageWords;
    const std::atomic_ref at(words[word]);
    if (at.load(std::memory_order_relaxed) == 0) {
      ++word;
      continue;
    }
    at.fetch_or(0, std::memory_order_relaxed);
    word = next_page;
  }
}

Status HostFile::sync(uint64_t offset_bytes, uint64_t length_bytes) {
  return kept_if_failed(mapping_.sync(offset_bytes, length_bytes));
}

Status HostFile::sync_all() {
  if (::fdatasync(fd_.get()) == 0) return Status::ok();
  return kept_if_failed(failed("it was not made durable"));
}

// The kernel takes the pages for clean, and may give them up for what the disk holds.
// Where we may lock that much memory it does not, as long as we live.
Status HostFile::kept_if_failed(Status status) noexcept {
  if (!status.is_ok() && mapping_.data() != nullptr) {
    (void)::mlock2(mapping_.data(), mapping_.length_bytes(), MLOCK_ONFAULT);
  }
  return status;
}

void HostFile::unlock() noexcept {
  // By name: the mapping keeps the open file description, and so the lock, alive.
  struct flock whole {};
  whole.l_type = F_UNLCK;
  whole.l_whence = SEEK_SET;
  if (fd_.is_open()) ::fcntl(fd_.get(), F_OFD_SETLK, &whole);
  fd_.reset();
}

class FileBitmapStorage final : public BitmapStorage {
 public:
  Result<std::unique_ptr<File>> create(const std::string& path) override;
  Status publish(File& file) override { return static_cast<HostFile&>(file).publish(); }
  Result<std::unique_ptr<File>> open(const std::string& path) override;
  Status rename(const std::string& from, const std::string& to) override {
    if (::rename(from.c_str(), to.c_str()) == 0) return Status::ok();
    return failed("it was not renamed");
  }
  void remove(const std::string& path) noexcept override { ::unlink(path.c_str()); }
  Status sync_directory(const std::string& path) override;
  Uuid boot() const override;
};

// A file that has no name until it is published; where the file system cannot do
// that, one under its final name.
Result<std::unique_ptr<BitmapStorage::File>> FileBitmapStorage::create(const std::string& path) {
  if (::access(path.c_str(), F_OK) == 0) {
    errno = EEXIST;
    return failed("something bears its name");
  }
  const std::string directory = parent_directory_of(path);
  UniqueFd fd(::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  const bool can_be_unnamed =
      fd.is_open() || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL);
  if (!can_be_unnamed) {
    fd.reset(::open(path.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600));
  }
  if (!fd.is_open()) return failed("it was not made");
  const int descriptor = fd.get();
  auto file = std::make_unique<HostFile>(std::move(fd));
  file->set_unpublished(path, !can_be_unnamed);
  if (Status status = lock(descriptor); !status.is_ok()) return status;
  return std::unique_ptr<File>(std::move(file));
}

Result<std::unique_ptr<BitmapStorage::File>> FileBitmapStorage::open(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK));
  if (!fd.is_open()) return failed("it was not opened");
  if (Status status = lock(fd.get()); !status.is_ok()) return status;
  // It was replaced by a grown one between our opening and our locking it.
  if (!is_named(fd.get(), path)) return Status::from_errno("it lost its name", EBUSY);
  return std::unique_ptr<File>(std::make_unique<HostFile>(std::move(fd)));
}

Status FileBitmapStorage::sync_directory(const std::string& path) {
  return sync_parent_directory(path, "its name was not made durable");
}

Uuid FileBitmapStorage::boot() const { return boot_id(); }

}  // namespace

BitmapStorage& file_bitmap_storage() {
  static FileBitmapStorage storage;
  return storage;
}

}  // namespace tidemark
