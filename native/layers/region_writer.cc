#include "layers/region_writer.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <semaphore>
#include <utility>

#include "device/io_engine.h"
#include "layers/file_io.h"

namespace tidemark {

namespace {

constexpr size_t kPageBytes = 4096;
constexpr size_t kBufferBytes = 1U << 20;

// Some file systems refuse O_DIRECT when the file is opened.
Result<UniqueFd> open_file(const std::string& path, bool& direct) {
  constexpr int kFlags = O_RDWR | O_CREAT | O_CLOEXEC;
  UniqueFd fd(::open(path.c_str(), kFlags | (direct ? O_DIRECT : 0), 0600));
  if (!fd.is_open() && direct && errno == EINVAL) {
    direct = false;
    fd = UniqueFd(::open(path.c_str(), kFlags, 0600));
  }
  if (!fd.is_open()) return Status::from_errno("Cannot open layer " + path, errno);
  return fd;
}

// Kept: its threads would start and end with each segment.
IoEngine& writing_engine() {
  static auto& engine = *new std::shared_ptr<IoEngine>(acquire_io_engine(IoEngineKind::kThreads));
  return *engine;
}

std::byte* new_buffer() {
  void* const buffer = std::aligned_alloc(kPageBytes, kBufferBytes);
  if (buffer == nullptr) throw std::bad_alloc();
  return static_cast<std::byte*>(buffer);
}

}  // namespace

Result<RegionWriter> RegionWriter::open(const std::string& path, uint64_t offset_bytes,
                                        std::string what) {
  bool direct = offset_bytes % kPageBytes == 0;
  auto fd = open_file(path, direct);
  if (!fd.is_ok()) return fd.status();
  return RegionWriter(std::move(fd).value(), offset_bytes, std::move(what), direct);
}

// Reads from the writer's memory, so it does not end before the engine is done with it.
struct RegionWriter::Write : IoTask {
  ~Write() {
    if (!is_over) wait();
  }

  int wait() noexcept {
    ended.acquire();
    is_over = true;
    return error;
  }

  int error = 0;
  bool is_over = false;
  std::binary_semaphore ended{0};
};

RegionWriter::RegionWriter(UniqueFd fd, uint64_t offset_bytes, std::string what, bool direct)
    : fd_(std::move(fd)),
      offset_bytes_(offset_bytes),
      what_(std::move(what)),
      direct_(direct),
      buffer_(new_buffer()),
      written_(new_buffer()) {}

RegionWriter::RegionWriter(RegionWriter&&) noexcept = default;
RegionWriter& RegionWriter::operator=(RegionWriter&&) noexcept = default;
RegionWriter::~RegionWriter() { write_.reset(); }

Status RegionWriter::append(std::span<const std::byte> data) {
  while (!data.empty()) {
    const size_t length_bytes = std::min(data.size(), kBufferBytes - buffered_bytes_);
    std::memcpy(buffer_.get() + buffered_bytes_, data.data(), length_bytes);
    buffered_bytes_ += length_bytes;
    data = data.subspan(length_bytes);
    if (buffered_bytes_ < kBufferBytes) continue;
    if (Status status = end_write(); !status.is_ok()) return status;
    begin_write();
  }
  return Status::ok();
}

Status RegionWriter::finish() {
  if (Status status = end_write(); !status.is_ok()) return status;
  if (Status status = write_rest(buffered_bytes_ / kPageBytes * kPageBytes); !status.is_ok()) {
    return status;
  }
  if (buffered_bytes_ > 0) {
    if (Status status = stop_direct(); !status.is_ok()) return status;
    if (Status status = write_rest(buffered_bytes_); !status.is_ok()) return status;
  }
  return sync_data(fd_.get(), what_);
}

// Of the full buffer, which is exchanged for the other.
void RegionWriter::begin_write() {
  std::swap(buffer_, written_);
  buffered_bytes_ = 0;
  write_ = std::make_unique<Write>();
  write_->kind = IoTask::Kind::kWrite;
  write_->fd = fd_.get();
  write_->data = written_.get();
  write_->offset_bytes = offset_bytes_;
  write_->remaining_bytes = kBufferBytes;
  write_->done = [](IoTask& task, int error) noexcept {
    auto& write = static_cast<Write&>(task);
    write.error = error;
    write.ended.release();
  };
  offset_bytes_ += kBufferBytes;
  writing_engine().submit(*write_);
}

Status RegionWriter::end_write() {
  if (write_ == nullptr) return Status::ok();
  const int error = write_->wait();
  write_.reset();
  if (error == 0) return Status::ok();
  if (error != EINVAL || !direct_) return Status::from_errno(what_, error);
  return write_at(offset_bytes_ - kBufferBytes, {written_.get(), kBufferBytes});
}

// The buffer's first `length_bytes`; the rest moves to its beginning.
Status RegionWriter::write_rest(size_t length_bytes) {
  if (Status status = write_at(offset_bytes_, {buffer_.get(), length_bytes}); !status.is_ok()) {
    return status;
  }
  offset_bytes_ += length_bytes;
  buffered_bytes_ -= length_bytes;
  std::memmove(buffer_.get(), buffer_.get() + length_bytes, buffered_bytes_);
  return Status::ok();
}

Status RegionWriter::write_at(uint64_t offset_bytes, std::span<const std::byte> content) {
  Status status = write_whole(fd_.get(), offset_bytes, content, {}, what_);
  if (status.is_ok() || !direct_ || status.code() != ErrorCode::kInvalidArgument) return status;
  // A device whose blocks are larger than a page.
  if (Status stopped = stop_direct(); !stopped.is_ok()) return stopped;
  return write_whole(fd_.get(), offset_bytes, content, {}, what_);
}

Status RegionWriter::stop_direct() {
  if (!direct_) return Status::ok();
  direct_ = false;
  const int flags = ::fcntl(fd_.get(), F_GETFL);
  if (flags < 0 || ::fcntl(fd_.get(), F_SETFL, flags & ~O_DIRECT) != 0) {
    return Status::from_errno(what_, errno);
  }
  return Status::ok();
}

}  // namespace tidemark
