#include "device/nbd_unflushed_writes.h"

#include <algorithm>
#include <cstring>
#include <new>

namespace tidemark {

namespace {

constexpr uint64_t kEntryBytes = 128;  // what an entry costs beside its data
constexpr size_t kBatchCount = 64;
constexpr uint64_t kBatchBytes = 8 * 1024 * 1024;

}  // namespace

uint64_t NbdUnflushedWrites::cost_bytes(IoOp op, uint64_t length_bytes) noexcept {
  return kEntryBytes + (op == IoOp::kWrite ? length_bytes : 0);
}

uint64_t NbdUnflushedWrites::cost_bytes(const IoRequest& request) noexcept {
  return cost_bytes(request.op, request.length_bytes);
}

void NbdUnflushedWrites::add(const IoRequest& request) noexcept {
  std::unique_ptr<std::byte[]> data;
  if (request.op == IoOp::kWrite) {
    data.reset(new (std::nothrow) std::byte[request.length_bytes]);
    if (data == nullptr) {
      first_number_ = incomplete_before_ = next_number() + 1;
      entries_.clear();
      kept_bytes_ = 0;
      return;
    }
    std::memcpy(data.get(), request.data, request.length_bytes);
  }
  entries_.push_back({request.op, request.flags & kIoNoHole, request.offset_bytes,
                      request.length_bytes, std::move(data)});
  kept_bytes_ += cost_bytes(request);
}

void NbdUnflushedWrites::drop_before(uint64_t number) noexcept {
  while (!entries_.empty() && first_number_ < number) {
    kept_bytes_ -= cost_bytes(entries_.front().op, entries_.front().length_bytes);
    entries_.pop_front();
    ++first_number_;
  }
  if (number >= incomplete_before_) incomplete_before_ = 0;
}

size_t NbdUnflushedWrites::independent_count(size_t first) const noexcept {
  uint64_t batch_bytes = 0;
  size_t end = first;
  for (; end < entries_.size() && end - first < kBatchCount; ++end) {
    const Entry& candidate = entries_[end];
    batch_bytes += cost_bytes(candidate.op, candidate.length_bytes);
    if (end > first && batch_bytes > kBatchBytes) break;
    const auto begin = entries_.begin();
    const bool is_free =
        std::none_of(begin + static_cast<ptrdiff_t>(first), begin + static_cast<ptrdiff_t>(end),
                     [&](const Entry& earlier) { return candidate.overlaps(earlier); });
    if (!is_free) break;
  }
  return end - first;
}

}  // namespace tidemark
