#include "layers/scratch_loader.h"

#include <algorithm>

#include "common/crc32c.h"
#include "device/sync_io.h"

namespace tidemark {

namespace {

constexpr uint64_t kReadPages = 256;

Status read_index(BlockDevice& device, uint64_t offset_bytes, std::vector<std::byte>& into,
                  const std::string& what) {
  Status status = read_sync(device, offset_bytes, into);
  if (status.is_ok()) return status;
  return {status.code(), what + ": because its index cannot be read: " + status.message(),
          status.sys_errno()};
}

}  // namespace

Status ScratchLoader::corrupt(const std::string& because) const {
  return {ErrorCode::kCorrupt,
          what_ + ": because " + because + ". Discard it and start from the recovery point again."};
}

Status ScratchLoader::read(uint64_t offset_bytes, std::vector<std::byte>& into) {
  return read_index(*device_, offset_bytes, into, what_);
}

Status ScratchLoader::load_header() {
  auto header = ScratchIndex::read_header(*device_, what_);
  if (!header.is_ok()) return header.status();
  if (header.value().identity != identity_) {
    const bool other_disk = header.value().identity.disk != identity_.disk;
    return {ErrorCode::kForeign,
            what_ + ": because it was made " +
                (other_disk ? "for disk " + header.value().identity.disk.to_string()
                            : std::string("on another base, other layers, another size or "
                                          "granularity of this disk")) +
                ". Open it on what it was made for, or discard it."};
  }
  if (device_->size_bytes() < geometry_.file_bytes()) {
    return {ErrorCode::kTruncated,
            what_ + ": because its index is shorter than its header says. Discard it."};
  }
  seed_ = header.value().seed;
  return Status::ok();
}

Status ScratchLoader::load_journal(unsigned number, Journal& journal) {
  journal.number = number;
  const uint64_t offset_bytes = geometry_.journal_offset_bytes(number);
  std::vector<std::byte> head(kScratchPageBytes);
  if (Status status = read(offset_bytes, head); !status.is_ok()) return status;
  if (!decode_scratch_journal(head.data(), seed_, journal.head)) return Status::ok();
  if (journal.head.page_count > geometry_.page_count) return Status::ok();
  journal.pages.resize(journal.head.page_count * kScratchPageBytes);
  if (Status status = read(offset_bytes + kScratchPageBytes, journal.pages); !status.is_ok()) {
    return status;
  }
  journal.whole =
      crc32c(journal.pages.data(), journal.pages.size(), seed_) == journal.head.pages_checksum;
  return Status::ok();
}

bool ScratchLoader::take_journal_pages(const Journal& journal) {
  for (uint64_t i = 0; i < journal.head.page_count; ++i) {
    const std::byte* from = journal.pages.data() + i * kScratchPageBytes;
    ScratchPage page;
    if (!decode_scratch_page(from, seed_, page)) return false;
    if (page.page_number >= geometry_.page_count) return false;
    if (page.sequence != journal.head.sequence) return false;
    newest_[page.page_number] = {page.sequence, from};
  }
  return true;
}

Status ScratchLoader::load_states(uint64_t page_number, const std::byte* page) {
  if (!states_.load_page(page_number, page + kScratchPageHeadBytes)) {
    return corrupt("page " + std::to_string(page_number) + " of its index holds no states");
  }
  if (!index_->written_[page_number]) ++index_->written_count_;
  index_->written_[page_number] = true;
  return Status::ok();
}

Status ScratchLoader::load_place(uint64_t page_number, const std::byte* from) {
  if (is_blank_page(from)) return Status::ok();
  ScratchPage page;
  const bool valid = decode_scratch_page(from, seed_, page) && page.page_number == page_number;
  const auto newest = newest_.find(page_number);
  // Copies are made after their journal is durable: a copy that is newer than any
  // whole journal says that a journal was lost.
  if (valid && page.sequence > index_->sequence_) {
    return corrupt("the journal of its index is damaged");
  }
  if (newest != newest_.end()) return Status::ok();
  if (!valid) return corrupt("page " + std::to_string(page_number) + " of its index is damaged");
  return load_states(page_number, from);
}

Status ScratchLoader::load_places() {
  std::vector<DeviceExtent> extents;
  for (uint64_t page = 0; page < geometry_.page_count;) {
    const uint64_t count = std::min(kReadPages, geometry_.page_count - page);
    const uint64_t offset_bytes = geometry_.page_offset_bytes(page);
    extents.clear();
    Status status = device_->query_extents("base:allocation", offset_bytes,
                                           count * kScratchPageBytes, 1, extents);
    const bool blank = status.is_ok() && !extents.empty() &&
                       (extents[0].flags & kExtentZero) != 0 &&
                       extents[0].length_bytes >= count * kScratchPageBytes;
    if (!blank) {
      std::vector<std::byte> pages(count * kScratchPageBytes);
      status = read(offset_bytes, pages);
      for (uint64_t i = 0; i < count && status.is_ok(); ++i) {
        status = load_place(page + i, pages.data() + i * kScratchPageBytes);
      }
      if (!status.is_ok()) return status;
    }
    page += count;
  }
  return Status::ok();
}

// What came from a journal has to be in the next one, too: its place may be torn.
Status ScratchLoader::load_newest() {
  for (const auto& [page_number, newest] : newest_) {
    if (Status status = load_states(page_number, newest.page); !status.is_ok()) return status;
    states_.mark_dirty(page_number);
  }
  return Status::ok();
}

Result<std::unique_ptr<ScratchIndex>> ScratchLoader::load() {
  if (Status status = load_header(); !status.is_ok()) return status;
  // What is read from here on must not be lost any more: a journal that only the
  // page cache has would be overwritten on the strength of it.
  if (Status status = flush_sync(*device_); !status.is_ok()) return status;
  index_.reset(new ScratchIndex(device_, geometry_, seed_, states_));
  for (unsigned number = 0; number < 2; ++number) {
    if (Status status = load_journal(number, journals_[number]); !status.is_ok()) return status;
  }
  if (journals_[0].head.sequence > journals_[1].head.sequence) {
    std::swap(journals_[0], journals_[1]);
  }
  uint64_t pages_ever_written = 0;
  for (const Journal& journal : journals_) {
    if (!journal.whole) continue;
    if (!take_journal_pages(journal)) return corrupt("a journal of its index contradicts itself");
    index_->sequence_ = journal.head.sequence;
    index_->journal_ = 1 - journal.number;
    pages_ever_written = journal.head.pages_ever_written;
  }
  Status status = load_places();
  if (status.is_ok()) status = load_newest();
  if (!status.is_ok()) return status;
  if (index_->written_count_ != pages_ever_written) {
    return corrupt("a page of its index is missing");
  }
  return std::move(index_);
}

Result<ScratchHeader> ScratchIndex::read_header(BlockDevice& device, const std::string& what) {
  if (device.size_bytes() < kScratchPageBytes) {
    return Status{ErrorCode::kTruncated, what + ": because its index is shorter than its header."};
  }
  std::vector<std::byte> page(kScratchPageBytes);
  if (Status status = read_index(device, 0, page, what); !status.is_ok()) return status;
  return decode_scratch_header(page.data(), what);
}

Result<std::unique_ptr<ScratchIndex>> ScratchIndex::load(std::shared_ptr<BlockDevice> device,
                                                         const ScratchIdentity& identity,
                                                         GranuleStates& states,
                                                         const std::string& what) {
  return ScratchLoader(std::move(device), identity, states, what).load();
}

}  // namespace tidemark
