// NbdUnflushedWrites: what an upstream has answered and no flush has covered yet.
//
// Such a write may be lost with its server (its cache, a format's metadata in its
// memory), and a later flush of the next server would succeed all the same: a lie
// to the guest. So its content is kept, and written again after a reconnect before
// anything else, as NFS clients do with unstable writes.
//
// Representation: a queue in the order of the answers, each with a copy of its
// data; a flush that succeeds drops from the front. Every answered write-class
// request goes in, a durable one (FUA) too: an older overlapping entry would
// otherwise come back over it. Cost: one copy of each write; memory bounded by the
// device, which flushes by itself and holds writes back when it is used up.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>

#include "device/io_request.h"

namespace tidemark {

class NbdUnflushedWrites {
 public:
  struct Entry {
    IoOp op;
    uint32_t flags;
    uint64_t offset_bytes;
    uint64_t length_bytes;
    std::unique_ptr<std::byte[]> data;  // of a write

    uint64_t end_bytes() const noexcept { return offset_bytes + length_bytes; }
    bool overlaps(const Entry& other) const noexcept {
      return offset_bytes < other.end_bytes() && other.offset_bytes < end_bytes();
    }
  };

  // An answered request. Without memory for it nothing is kept at all (older
  // entries may lie under it): the queue is incomplete until the next flush.
  void add(const IoRequest& request) noexcept;

  // What a flush that is sent now will cover.
  uint64_t next_number() const noexcept { return first_number_ + entries_.size(); }
  void drop_before(uint64_t number) noexcept;
  // Of entry `index`.
  uint64_t number_of(size_t index) const noexcept { return first_number_ + index; }

  bool is_empty() const noexcept { return entries_.empty(); }
  bool is_incomplete() const noexcept { return incomplete_before_ != 0; }
  uint64_t kept_bytes() const noexcept { return kept_bytes_; }
  static uint64_t cost_bytes(const IoRequest& request) noexcept;

  // From entry `first` on, as many as do not overlap each other and are together
  // short: they may be written again at once, in any order.
  size_t independent_count(size_t first) const noexcept;
  const Entry& entry(size_t index) const noexcept { return entries_[index]; }
  size_t count() const noexcept { return entries_.size(); }

 private:
  static uint64_t cost_bytes(IoOp op, uint64_t length_bytes) noexcept;

  std::deque<Entry> entries_;
  uint64_t first_number_ = 0;       // of entries_[0]
  uint64_t incomplete_before_ = 0;  // 0: nothing is missing
  uint64_t kept_bytes_ = 0;
};

}  // namespace tidemark
