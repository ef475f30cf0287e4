// A request for tests that watches how a device treats it, and small helpers.
#pragma once

#include <doctest/doctest.h>

#include <atomic>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <semaphore>
#include <vector>

#include "device/block_device.h"
#include "device/sync_io.h"

namespace tidemark::device_contract {

using MakeDevice = std::function<std::shared_ptr<BlockDevice>(uint64_t size_bytes)>;
using Bytes = std::vector<std::byte>;

inline constexpr uint64_t kMiB = 1024 * 1024;

struct TestRange {
  uint64_t offset, length;
};

inline Bytes random_bytes(std::mt19937_64& random, size_t size) {
  Bytes bytes(size);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random() >> 56);
  return bytes;
}

// A request with its own buffer, fenced on both sides, that counts its completions.
// The frame below the counted one catches a second completion.
class Probe {
 public:
  static constexpr std::byte kFence{0xA7};
  static constexpr size_t kFenceBytes = 64;

  Probe(IoOp op, uint64_t offset_bytes, uint64_t length_bytes, uint32_t flags = 0) {
    const bool has_data = op == IoOp::kRead || op == IoOp::kWrite;
    buffer_.assign((has_data ? length_bytes : 0) + 2 * kFenceBytes, kFence);
    request_.op = op;
    request_.flags = flags;
    request_.offset_bytes = offset_bytes;
    request_.length_bytes = length_bytes;
    if (has_data) request_.data = data();
  }
  Probe(const Probe&) = delete;
  Probe& operator=(const Probe&) = delete;

  std::byte* data() { return buffer_.data() + kFenceBytes; }
  IoRequest& request() { return request_; }
  std::function<void()> after;  // runs inside the completion

  void submit(BlockDevice& device) {
    request_.push(count_second, this);
    request_.push(count_first, this);
    device.submit(request_);
  }
  int wait() {
    completed_.acquire();
    return error_;
  }
  int run(BlockDevice& device) {
    submit(device);
    return wait();
  }
  int extra_completions() const { return extra_completions_; }
  bool fences_hold() const {
    for (size_t i = 0; i < kFenceBytes; ++i) {
      if (buffer_[i] != kFence || buffer_[buffer_.size() - 1 - i] != kFence) return false;
    }
    return true;
  }

 private:
  static void count_first(IoRequest& /*request*/, void* context, uint64_t /*word*/,
                          int error) noexcept {
    auto* probe = static_cast<Probe*>(context);
    probe->error_ = error;
    if (probe->after) probe->after();
    probe->completed_.release();
  }
  static void count_second(IoRequest& /*request*/, void* context, uint64_t /*word*/,
                           int /*error*/) noexcept {
    ++static_cast<Probe*>(context)->extra_completions_;
  }

  IoRequest request_;
  Bytes buffer_;
  int error_ = -1;
  std::atomic<int> extra_completions_{0};
  std::binary_semaphore completed_{0};
};

inline Bytes read_all(BlockDevice& device) {
  Bytes content(device.size_bytes());
  REQUIRE(read_sync(device, 0, content).is_ok());
  return content;
}

inline bool is_zero(const std::byte* data, size_t length) {
  for (size_t i = 0; i < length; ++i) {
    if (data[i] != std::byte{0}) return false;
  }
  return true;
}

inline bool is_zero(const Bytes& bytes) { return is_zero(bytes.data(), bytes.size()); }

}  // namespace tidemark::device_contract
