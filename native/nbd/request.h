// NbdRequest: a client's request while a device has it; RequestPool: where the
// objects come from, so that no request costs a malloc. One I/O thread's own.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "common/nbd_wire.h"
#include "device/io_request.h"
#include "nbd/chunk.h"
#include "nbd/reply_format.h"
#include "nbd/status_query.h"

namespace tidemark::nbd {

class Transmission;
struct SparseRead;

struct NbdRequest : IoRequest {
  Transmission* owner = nullptr;
  ChunkRef chunk;              // holds a write's payload, or a read's reply
  std::byte* reply = nullptr;  // read: the reply's header, the data behind it
  ReplyTo reply_to{};
  SparseRead* sparse = nullptr;         // read: the one that this is a part of, if any
  std::unique_ptr<StatusQuery> status;  // BLOCK_STATUS, while the extent worker has it
  Command command = Command::kRead;
  int error = 0;  // 0 or an errno, set by the completion
};

class RequestPool {
 public:
  NbdRequest& acquire() {
    if (free_ == nullptr) grow();
    NbdRequest& request = *free_;
    free_ = static_cast<NbdRequest*>(request.next);
    request.next = nullptr;
    return request;
  }

  // Frees all memory if no request is out.
  void trim() noexcept {
    size_t free_count = 0;
    for (const IoRequest* request = free_; request != nullptr; request = request->next) {
      ++free_count;
    }
    if (free_count != blocks_.size() * kBlockCount) return;
    free_ = nullptr;
    blocks_.clear();
  }

  void release(NbdRequest& request) noexcept {
    request.chunk.reset();
    request.next = free_;
    free_ = &request;
  }

 private:
  static constexpr size_t kBlockCount = 64;

  void grow() {
    blocks_.push_back(std::make_unique<NbdRequest[]>(kBlockCount));
    for (size_t i = 0; i < kBlockCount; ++i) release(blocks_.back()[i]);
  }

  std::vector<std::unique_ptr<NbdRequest[]>> blocks_;
  NbdRequest* free_ = nullptr;
};

}  // namespace tidemark::nbd
