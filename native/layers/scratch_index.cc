#include "layers/scratch_index.h"

#include <cerrno>
#include <cstring>
#include <new>

#include "common/byte_order.h"
#include "common/crc32c.h"
#include "device/sync_io.h"

namespace tidemark {

Status ScratchIndex::format(BlockDevice& device, const ScratchIdentity& identity,
                            const std::string& what) {
  std::vector<std::byte> page(kScratchPageBytes);
  encode_scratch_header(identity, Uuid::random(), page.data());
  Status status = write_sync(device, 0, page);
  if (status.is_ok()) status = flush_sync(device);
  if (status.is_ok()) return status;
  return {status.code(), what + ": " + status.message(), status.sys_errno()};
}

ScratchIndex::ScratchIndex(std::shared_ptr<BlockDevice> device, const ScratchGeometry& geometry,
                           uint32_t seed, GranuleStates& states)
    : device_(std::move(device)),
      geometry_(geometry),
      seed_(seed),
      states_(states),
      written_(geometry.page_count) {}

uint64_t ScratchIndex::Pages::number_of(uint64_t index) const noexcept {
  return load_le<uint32_t>(page(index) + 8);
}

void ScratchIndex::take_dirty_pages() noexcept {
  const uint64_t room = cycle_.page_count;
  cycle_.page_count = 0;
  // Pages that become dirty meanwhile are taken if there is room, else next time.
  for (uint64_t page = 0; page < geometry_.page_count && cycle_.page_count < room; ++page) {
    if (!states_.take_dirty(page)) continue;
    std::byte* to = cycle_.page(cycle_.page_count++);
    states_.copy_page(page, to + kScratchPageHeadBytes);
    finish_scratch_page(to, page, sequence_, seed_);
    if (!written_[page]) ++written_count_;
    written_[page] = true;
  }
}

int ScratchIndex::begin_cycle() noexcept {
  cycle_.page_count = states_.dirty_page_count();
  copied_count_ = 0;
  if (cycle_.page_count == 0) return 0;
  cycle_.bytes.reset(new (std::nothrow) std::byte[kScratchPageBytes * (1 + cycle_.page_count)]);
  if (cycle_.bytes == nullptr) {
    cycle_.page_count = 0;
    return ENOMEM;
  }
  ++sequence_;
  take_dirty_pages();
  const uint32_t checksum = crc32c(cycle_.page(0), cycle_.page_count * kScratchPageBytes, seed_);
  encode_scratch_journal({sequence_, cycle_.page_count, written_count_, checksum}, seed_,
                         cycle_.bytes.get());
  return 0;
}

void ScratchIndex::make_journal_write(IoRequest& request) noexcept {
  request.op = IoOp::kWrite;
  request.flags = 0;
  request.offset_bytes = geometry_.journal_offset_bytes(journal_);
  request.length_bytes = kScratchPageBytes * (1 + cycle_.page_count);
  request.data = cycle_.bytes.get();
}

void ScratchIndex::commit() noexcept {
  journal_ = 1 - journal_;
  previous_ = std::move(cycle_);
  cycle_.page_count = 0;
  copied_count_ = 0;
}

bool ScratchIndex::make_copy_write(IoRequest& request) noexcept {
  if (copied_count_ == previous_.page_count) return false;
  const uint64_t first = copied_count_++;
  const uint64_t page_number = previous_.number_of(first);
  while (copied_count_ < previous_.page_count &&
         previous_.number_of(copied_count_) == page_number + (copied_count_ - first)) {
    ++copied_count_;
  }
  request.op = IoOp::kWrite;
  request.flags = 0;
  request.offset_bytes = geometry_.page_offset_bytes(page_number);
  request.length_bytes = kScratchPageBytes * (copied_count_ - first);
  request.data = previous_.page(first);
  return true;
}

// The journal still has them; dirty again, the next journal has them too.
void ScratchIndex::copy_failed(const IoRequest& request) noexcept {
  const uint64_t first_page = request.offset_bytes / kScratchPageBytes - 1;
  for (uint64_t i = 0; i < request.length_bytes / kScratchPageBytes; ++i) {
    states_.mark_dirty(first_page + i);
  }
}

void ScratchIndex::mark_dirty(const Pages& pages) noexcept {
  for (uint64_t i = 0; i < pages.page_count; ++i) states_.mark_dirty(pages.number_of(i));
}

// A failed sync may have dropped the copies of the cycle before, too.
void ScratchIndex::abandon_cycle() noexcept {
  mark_dirty(cycle_);
  mark_dirty(previous_);
  cycle_.page_count = 0;
}

}  // namespace tidemark
