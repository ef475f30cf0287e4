// One request on its way through a stack of devices.
//
// The submitter owns the request and its buffer until the outermost completion
// has run; nobody touches either afterwards. A device that wraps another pushes
// a frame before it passes the request on and is called back, innermost first,
// when it completes: no allocation, no virtual call, on any thread, possibly
// inside submit() itself.
#pragma once

#include <cassert>
#include <cstddef>
#include <cstdint>

namespace tidemark {

// kCache: a hint that the range will be read soon; what it reads as stays the same.
enum class IoOp : uint8_t { kRead, kWrite, kFlush, kTrim, kWriteZeroes, kCache };

// Flags of a request, as in the NBD protocol.
inline constexpr uint32_t kIoFua = 1U << 0;     // durable before completion
inline constexpr uint32_t kIoNoHole = 1U << 1;  // write-zeroes must allocate
// Fails with ENOTSUP rather than write zeroes slowly.
inline constexpr uint32_t kIoFastZero = 1U << 2;

class IoRequest {
 public:
  // `error` is 0 or a positive errno. The callee finishes with
  // request.complete(error) unless it keeps the request for later.
  using DoneFn = void (*)(IoRequest& request, void* context, uint64_t word, int error) noexcept;

  IoOp op = IoOp::kRead;
  uint32_t flags = 0;
  uint64_t offset_bytes = 0;
  uint64_t length_bytes = 0;
  std::byte* data = nullptr;  // read: filled; write: the source; null otherwise

  IoRequest* next = nullptr;  // for the one who holds the request at the moment (queues)

  // `word` is the pusher's own, e.g. which shard of a counter it took.
  void push(DoneFn done, void* context, uint64_t word = 0) noexcept {
    assert(depth_ < kMaxDepth);
    frames_[depth_++] = Frame{done, context, word};
  }

  void complete(int error) noexcept {
    assert(depth_ > 0);
    const Frame frame = frames_[--depth_];
    frame.done(*this, frame.context, frame.word, error);
  }

  bool is_write_class() const noexcept {
    return op == IoOp::kWrite || op == IoOp::kTrim || op == IoOp::kWriteZeroes;
  }
  uint64_t end_bytes() const noexcept { return offset_bytes + length_bytes; }

 private:
  static constexpr int kMaxDepth = 6;
  struct Frame {
    DoneFn done;
    void* context;
    uint64_t word;
  };
  Frame frames_[kMaxDepth];
  int depth_ = 0;
};

}  // namespace tidemark
