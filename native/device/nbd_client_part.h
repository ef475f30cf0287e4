// NbdClientPart: one request on the wire. A device's request is cut into as many
// as the server's limits ask for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/nbd_wire.h"

namespace tidemark {

struct NbdClientOperation;

// Which bytes of a read have arrived.
//
// Representation: disjoint, sorted ranges, neighbours joined, so that a reply in
// one chunk, or in chunks in order, is one range. Bounded, since a server decides
// how many there are.
class NbdReadCoverage {
 public:
  // False: the range overlaps what is there, or the pieces are too many.
  bool add(uint32_t begin, uint32_t end);
  bool is_whole(uint32_t length) const noexcept {
    return ranges_.size() == 1 && ranges_[0].begin == 0 && ranges_[0].end == length;
  }
  void clear() noexcept { ranges_.clear(); }

 private:
  static constexpr size_t kMaximumRanges = 4096;
  struct Range {
    uint32_t begin, end;
  };
  std::vector<Range> ranges_;
};

struct NbdClientPart {
  NbdClientOperation* operation = nullptr;
  nbd::Command command = nbd::Command::kRead;
  uint16_t flags = 0;
  uint64_t offset_bytes = 0;
  uint32_t length_bytes = 0;
  std::byte* data = nullptr;  // read: filled; write: the source

  // The connection's that has it.
  nbd::RequestHeader header{};
  uint64_t cookie = 0;
  bool is_sent = false;
  int error = 0;  // 0 or an errno
  NbdReadCoverage coverage;
  std::vector<nbd::BlockStatusExtent> extents;  // block status

  NbdClientPart* next = nullptr;  // of the list that it is in

  size_t sent_payload_bytes() const noexcept {
    return command == nbd::Command::kWrite ? length_bytes : 0;
  }
};

// First in, first out; links parts through `next`.
class NbdPartQueue {
 public:
  bool is_empty() const noexcept { return head_ == nullptr; }
  NbdClientPart* front() const noexcept { return head_; }

  void push(NbdClientPart& part) noexcept {
    part.next = nullptr;
    (head_ == nullptr ? head_ : tail_->next) = &part;
    tail_ = &part;
  }
  NbdClientPart* pop() noexcept {
    NbdClientPart* part = head_;
    if (part != nullptr) head_ = part->next;
    return part;
  }

 private:
  NbdClientPart* head_ = nullptr;
  NbdClientPart* tail_ = nullptr;
};

}  // namespace tidemark
