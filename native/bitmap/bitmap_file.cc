#include "bitmap/bitmap_file.h"

#include <time.h>

#include <atomic>
#include <cerrno>
#include <span>
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

std::atomic_ref<uint64_t> word_at(const BitmapStorage::File& file, uint64_t offset_bytes) noexcept {
  return std::atomic_ref(*reinterpret_cast<uint64_t*>(file.data() + offset_bytes));
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

// Why there is no file: the storage's reason is the kernel's.
Status not_held(const char* verb, const std::string& path, const Status& reason) {
  if (reason.code() == ErrorCode::kInUse) return in_use(verb, path);
  return cannot(verb, path, reason.sys_errno());
}

Status write_sector(BitmapStorage::File& file, const BitmapHeader& header) {
  return file.write(0, header.encode());
}

Status fill(BitmapStorage::File& file, const BitmapHeader& header, const BitmapLayout& layout) {
  if (Status status = file.set_size(layout.file_bytes()); !status.is_ok()) return status;
  if (Status status = file.allocate(0, layout.slot_offset_bytes(0)); !status.is_ok()) return status;
  if (Status status = write_sector(file, header); !status.is_ok()) return status;
  const uint64_t word = live_index_word(0);
  if (Status status = file.write(kLiveIndexAt, std::as_bytes(std::span(&word, 1)));
      !status.is_ok()) {
    return status;
  }
  return file.sync_all();
}

Status complete(BitmapStorage& storage, BitmapStorage::File& file, const std::string& path,
                const BitmapHeader& header, const BitmapLayout& layout) {
  if (Status status = fill(file, header, layout); !status.is_ok()) return status;
  failpoint("bitmap.create");
  if (Status status = storage.publish(file); !status.is_ok()) return status;
  Status status = storage.sync_directory(path);
  if (!status.is_ok()) storage.remove(path);
  return status;
}

Status check_file_size(const BitmapStorage::File& file, uint64_t expected_bytes) {
  const Result<uint64_t> size = file.size_bytes();
  if (!size.is_ok()) return size.status();
  if (size.value() == expected_bytes) return Status::ok();
  const std::string sizes = "it has " + std::to_string(size.value()) +
                            " bytes, and its header says " + std::to_string(expected_bytes);
  return {size.value() < expected_bytes ? ErrorCode::kTruncated : ErrorCode::kCorrupt, sizes};
}

Result<BitmapHeader> read_header(const BitmapStorage::File& file) {
  BitmapHeader::Sector sector;
  const Result<size_t> length = file.read(0, sector);
  if (!length.is_ok()) return length.status();
  return BitmapHeader::decode({sector.data(), length.value()});
}

Status allocate_what_is_used(BitmapStorage::File& file, const BitmapHeader& header,
                             const BitmapLayout& layout) {
  if (Status status = file.allocate(0, layout.slot_offset_bytes(0)); !status.is_ok()) return status;
  for (uint32_t slot = 0; slot < kMaxTargets; ++slot) {
    if (header.targets[slot].is_nil()) continue;
    Status status = file.allocate(layout.slot_offset_bytes(slot), layout.slot_bytes());
    if (!status.is_ok()) return status;
  }
  return Status::ok();
}

class IntentPageInFile final : public IntentStorage {
 public:
  IntentPageInFile(BitmapStorage::File& file, std::atomic<bool>& sync_has_failed)
      : file_(file), sync_has_failed_(sync_has_failed) {}

  Status write(uint64_t offset_bytes, std::span<const std::byte> bytes) override {
    if (!file_.is_locked()) return {ErrorCode::kClosed, "the bitmap is closed"};
    return file_.write(kIntentPageOffsetBytes + offset_bytes, bytes);
  }
  Status sync() override {
    if (!file_.is_locked()) return {ErrorCode::kClosed, "the bitmap is closed"};
    Status status = file_.sync_log(kIntentPageOffsetBytes, kIntentPageBytes);
    if (!status.is_ok()) sync_has_failed_ = true;
    return status;
  }

 private:
  BitmapStorage::File& file_;
  std::atomic<bool>& sync_has_failed_;
};

}  // namespace

BitmapFile::BitmapFile(BitmapStorage& storage, std::string path, StoredFile file,
                       const BitmapHeader& header)
    : storage_(&storage),
      path_(std::move(path)),
      file_(std::move(file)),
      header_(header),
      layout_(BitmapLayout::of(header.disk_size_bytes, header.granularity_bytes)) {}

Result<BitmapFile> BitmapFile::map(BitmapStorage& storage, const std::string& path, StoredFile file,
                                   const BitmapHeader& header) {
  if (Status status = file->map(); !status.is_ok()) return cannot("open", path, status);
  return BitmapFile(storage, path, std::move(file), header);
}

Result<BitmapFile> BitmapFile::create(BitmapStorage& storage, const std::string& path,
                                      const BitmapHeader& header) {
  Result<StoredFile> file = storage.create(path);
  if (!file.is_ok()) return not_held("create", path, file.status());
  const auto layout = BitmapLayout::of(header.disk_size_bytes, header.granularity_bytes);
  if (Status status = complete(storage, *file.value(), path, header, layout); !status.is_ok()) {
    return cannot("create", path, status);
  }
  return map(storage, path, std::move(file).value(), header);
}

Result<BitmapFile> BitmapFile::open(BitmapStorage& storage, const std::string& path) {
  Result<StoredFile> opened = storage.open(path);
  if (!opened.is_ok()) return not_held("open", path, opened.status());
  BitmapStorage::File& stored = *opened.value();
  const Result<BitmapHeader> header = read_header(stored);
  if (!header.is_ok()) return unusable(path, header.status());
  const BitmapHeader& known = header.value();
  const auto layout = BitmapLayout::of(known.disk_size_bytes, known.granularity_bytes);
  if (Status status = check_file_size(stored, layout.file_bytes()); !status.is_ok()) {
    return unusable(path, status);
  }
  if (Status status = allocate_what_is_used(stored, known, layout); !status.is_ok()) {
    return cannot("open", path, status);
  }
  Result<BitmapFile> file = map(storage, path, std::move(opened).value(), known);
  if (file.is_ok() && file.value().live_index() < 0) {
    return unusable(path, {ErrorCode::kCorrupt, "its live index is neither 0 nor 1"});
  }
  return file;
}

Status BitmapFile::replace(const std::string& path) {
  if (Status status = storage_->rename(path_, path); !status.is_ok()) {
    return cannot("grow", path, status.sys_errno());
  }
  path_ = path;
  failpoint("bitmap.grow.renamed");
  (void)note(storage_->sync_directory(path));
  return Status::ok();
}

Status BitmapFile::write_header(BitmapHeader header) {
  header.sequence = header_.sequence + 1;
  Status status = write_sector(*file_, header);
  if (status.is_ok()) status = sync_everything();
  if (!status.is_ok()) {
    (void)write_sector(*file_, header_);
    return cannot("update", path_, status);
  }
  header_ = header;
  return Status::ok();
}

Result<uint64_t> BitmapFile::advance_sequence(uint64_t above) {
  BitmapHeader header = header_;
  header.sequence = std::max(header.sequence, above) + 1;
  Status status = write_sector(*file_, header);
  if (status.is_ok()) status = note(file_->sync(0, kBitmapHeaderBytes));
  if (!status.is_ok()) {
    (void)write_sector(*file_, header_);
    return cannot("update", path_, status);
  }
  header_ = header;
  return header.sequence;
}

Status BitmapFile::allocate_slot(uint32_t slot) {
  // A removal that was interrupted may have left content behind.
  if (Status status = release_slot(slot); !status.is_ok()) return status;
  Status status = file_->allocate(layout_.slot_offset_bytes(slot), layout_.slot_bytes());
  if (status.is_ok()) return status;
  (void)release_slot(slot);
  return cannot("extend", path_, status);
}

Status BitmapFile::release_slot(uint32_t slot) {
  Status status = file_->release(layout_.slot_offset_bytes(slot), layout_.slot_bytes());
  return status.is_ok() ? status : cannot("shrink", path_, status);
}

BlockMap BitmapFile::map_at(uint64_t offset_bytes) const {
  return {reinterpret_cast<uint64_t*>(file_->data() + offset_bytes),
          layout_.map_bytes / sizeof(uint64_t), layout_.block_count};
}

void BitmapFile::mark_all_suspect() noexcept {
  for (uint32_t slot = 0; slot < kMaxTargets; ++slot) {
    if (header_.targets[slot].is_nil()) continue;
    map_at(layout_.slot_offset_bytes(slot) + 3 * layout_.map_bytes).mark_all();
  }
}

Status BitmapFile::sync(const BlockMap& map, WordRange words) {
  if (words.is_empty()) return Status::ok();
  const auto* first = reinterpret_cast<const std::byte*>(map.words() + words.first);
  const auto offset_bytes = static_cast<uint64_t>(first - file_->data());
  const uint64_t length_bytes = (words.end - words.first) * sizeof(uint64_t);
  if (sync_has_failed()) file_->renew(offset_bytes, length_bytes);
  return note(file_->sync(offset_bytes, length_bytes));
}

void BitmapFile::renew() noexcept {
  file_->renew(0, kIntentPageOffsetBytes + kIntentPageBytes);
  file_->renew(layout_.live_offset_bytes(0), kLiveMaps * layout_.map_bytes);
  for (uint32_t slot = 0; slot < kMaxTargets; ++slot) {
    if (header_.targets[slot].is_nil()) continue;
    file_->renew(layout_.slot_offset_bytes(slot), layout_.slot_bytes());
  }
}

Status BitmapFile::sync_everything() {
  if (sync_has_failed()) renew();
  const Status status = file_->sync_all();
  if (status.is_ok()) return status;
  return note(
      Status::from_errno("Cannot make the bitmap " + path_ + " durable", status.sys_errno()));
}

void BitmapFile::close() noexcept { file_->unlock(); }

Status BitmapFile::note(Status status) noexcept {
  if (!status.is_ok()) *sync_has_failed_ = true;
  return status;
}

Result<IntentPage> BitmapFile::intent_page() const {
  const std::span<const std::byte, kIntentPageBytes> bytes(file_->data() + kIntentPageOffsetBytes,
                                                           kIntentPageBytes);
  return IntentPage::decode(bytes, header_.disk, RegionLayout::of(header_.disk_size_bytes));
}

std::unique_ptr<IntentStorage> BitmapFile::intent_storage() const {
  return std::make_unique<IntentPageInFile>(*file_, *sync_has_failed_);
}

int BitmapFile::live_index() const noexcept {
  const uint64_t word = word_at(*file_, kLiveIndexAt).load(std::memory_order_acquire);
  for (uint32_t index = 0; index < kLiveMaps; ++index) {
    if (word == live_index_word(index)) return static_cast<int>(index);
  }
  return -1;
}

void BitmapFile::store_live_index(uint32_t index) noexcept {
  word_at(*file_, kLiveIndexAt).store(live_index_word(index), std::memory_order_release);
}

void BitmapFile::store_heartbeat() noexcept {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  const auto now_ms =
      static_cast<uint64_t>(now.tv_sec) * 1000 + static_cast<uint64_t>(now.tv_nsec) / 1'000'000;
  word_at(*file_, kHeartbeatAt).store(now_ms, std::memory_order_relaxed);
}

}  // namespace tidemark
