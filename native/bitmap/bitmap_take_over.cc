#include "bitmap/bitmap_take_over.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "bitmap/bitmap_file.h"
#include "common/failpoint.h"
#include "common/fd.h"

namespace tidemark {

namespace {

constexpr int kAttempts = 50;
constexpr uint64_t kChunkBytes = 1 << 20;

// The file as its holder has it, without a lock.
class HeldFile {
 public:
  explicit HeldFile(const std::string& path)
      : path_(path), fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {}

  Result<BitmapHeader> header() const {
    if (!fd_.is_open()) return failed();
    BitmapHeader::Sector sector;
    const ssize_t length = ::pread(fd_.get(), sector.data(), sector.size(), 0);
    if (length < 0) return failed();
    Result<BitmapHeader> header =
        BitmapHeader::decode({sector.data(), static_cast<size_t>(length)});
    if (header.is_ok()) return header;
    return Status{header.status().code(), "Cannot take the bitmap " + path_ + " over: because " +
                                              header.status().message() +
                                              ". Move it away, and compare the whole disk with "
                                              "its replicas."};
  }

  // ORs [from, end) into the same place of `into`; answers whether that set anything.
  Result<bool> merge(uint64_t from_bytes, uint64_t end_bytes, std::byte* into) const {
    bool has_changed = false;
    std::vector<std::byte> chunk(kChunkBytes);
    for (uint64_t at = from_bytes; at < end_bytes; at += kChunkBytes) {
      const uint64_t length_bytes = std::min(kChunkBytes, end_bytes - at);
      const ssize_t length = ::pread(fd_.get(), chunk.data(), length_bytes, static_cast<off_t>(at));
      if (length != static_cast<ssize_t>(length_bytes)) return failed();
      for (uint64_t i = 0; i < length_bytes; ++i) {
        const std::byte merged = into[at + i] | chunk[i];
        has_changed = has_changed || merged != into[at + i];
        if (merged != into[at + i]) into[at + i] = merged;
      }
    }
    return has_changed;
  }

 private:
  Status failed() const {
    return Status::from_errno("Cannot take the bitmap " + path_ + " over", errno);
  }

  const std::string path_;
  const UniqueFd fd_;
};

// Maps in use: live, and those of the slots that have a target.
Result<bool> merge_maps(const HeldFile& held, BitmapFile& copy) {
  const BitmapLayout& layout = copy.layout();
  Result<bool> live =
      held.merge(layout.live_offset_bytes(0), layout.slot_offset_bytes(0), copy.bytes());
  if (!live.is_ok()) return live;
  bool has_changed = live.value();
  for (uint32_t slot = 0; slot < kMaxTargets; ++slot) {
    if (copy.header().targets[slot].is_nil()) continue;
    const uint64_t from_bytes = layout.slot_offset_bytes(slot);
    Result<bool> maps = held.merge(from_bytes, from_bytes + layout.slot_bytes(), copy.bytes());
    if (!maps.is_ok()) return maps;
    has_changed = has_changed || maps.value();
  }
  return has_changed;
}

Result<BitmapFile> make_copy(const std::string& path, BitmapHeader header, BitmapStorage& storage) {
  header.clean = false;
  header.hand_over = Uuid::random();
  ++header.owner_epoch;
  storage.remove(path);
  Result<BitmapFile> made = BitmapFile::create(storage, path, header);
  if (!made.is_ok()) return made;
  for (uint32_t slot = 0; slot < kMaxTargets; ++slot) {
    if (header.targets[slot].is_nil()) continue;
    if (Status status = made.value().allocate_slot(slot); !status.is_ok()) return status;
  }
  return made;
}

// A bit moves from one map to another by being set there before it is cleared here. A
// reading may miss it between the two; the next one then finds it, and another follows.
Status copy_until_it_settles(const HeldFile& held, BitmapFile& copy, const std::string& path) {
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    Result<bool> has_changed = merge_maps(held, copy);
    if (!has_changed.is_ok()) return has_changed.status();
    const Result<BitmapHeader> now = held.header();
    if (now.is_ok() && now.value().targets != copy.header().targets) break;
    if (attempt > 0 && !has_changed.value()) return Status::ok();
  }
  return {ErrorCode::kTimedOut, "Cannot take the bitmap " + path +
                                    " over: because its holder goes on changing it. Try again."};
}

}  // namespace

Status take_bitmap_over(const std::string& path, BitmapStorage& storage) {
  {
    const Result<BitmapFile> free = BitmapFile::open(storage, path);
    if (free.is_ok()) return Status::ok();
    if (free.status().code() != ErrorCode::kInUse) return free.status();
  }
  const HeldFile held(path);
  const Result<BitmapHeader> header = held.header();
  if (!header.is_ok()) return header.status();
  if (header.value().handed_over) {
    return {ErrorCode::kHandedOver, "Cannot take the bitmap " + path +
                                        " over: because its state was exported. Import that."};
  }
  Result<BitmapFile> made = make_copy(path + ".takeover", header.value(), storage);
  if (!made.is_ok()) return made.status();
  BitmapFile& copy = made.value();
  // Marks of the intent log go once what they stand for is durable: the first reading holds.
  const Result<bool> intents =
      held.merge(kIntentPageOffsetBytes, kIntentPageOffsetBytes + kIntentPageBytes, copy.bytes());
  if (!intents.is_ok()) return intents.status();
  if (Status status = copy_until_it_settles(held, copy, path); !status.is_ok()) return status;
  copy.store_live_index(0);
  copy.store_heartbeat();
  if (Status status = copy.sync_everything(); !status.is_ok()) return status;
  failpoint("takeover.copied");
  return copy.replace(path);
}

}  // namespace tidemark
