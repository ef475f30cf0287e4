// Chunks: the server's buffers, counted by reference and pooled per I/O thread.
//
// Representation: power-of-two classes from 256 KiB to 32 MiB, each with one
// page more for headers, in a last-in-first-out free list a class, so that the
// chunk used next is the one whose memory is still in the CPU's cache.
// Workload: one or two acquisitions for a batch of requests; many references.
// Cost: acquire and release are O(1) and call malloc only while a connection's
// working set grows; at most kMaximumCachedBytes stay cached a thread.
// Thread: everything here belongs to one I/O thread; counts are not atomic.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace tidemark::nbd {

class ChunkPool;

struct Chunk {
  std::byte* bytes = nullptr;
  size_t capacity_bytes = 0;
  size_t size_class = 0;
  bool is_reserved = false;  // locked in memory, kept as long as the pool
  uint32_t reference_count = 0;
  size_t* account_bytes = nullptr;  // the live bytes of the connection that holds it
  ChunkPool* home = nullptr;
  Chunk* next_free = nullptr;
};

// One reference; the last one gives the chunk back to its pool.
class ChunkRef {
 public:
  ChunkRef() = default;
  explicit ChunkRef(Chunk* chunk) noexcept : chunk_(chunk) {
    if (chunk_ != nullptr) ++chunk_->reference_count;
  }
  ChunkRef(const ChunkRef& other) noexcept : ChunkRef(other.chunk_) {}
  ChunkRef(ChunkRef&& other) noexcept : chunk_(std::exchange(other.chunk_, nullptr)) {}
  ChunkRef& operator=(ChunkRef other) noexcept {
    std::swap(chunk_, other.chunk_);
    return *this;
  }
  ~ChunkRef() { reset(); }

  void reset() noexcept;
  explicit operator bool() const noexcept { return chunk_ != nullptr; }
  Chunk* operator->() const noexcept { return chunk_; }
  Chunk* get() const noexcept { return chunk_; }
  bool is_only_reference() const noexcept { return chunk_->reference_count == 1; }

 private:
  Chunk* chunk_ = nullptr;
};

class ChunkPool {
 public:
  static constexpr size_t kSmallestBytes = 256 * 1024;
  static constexpr size_t kClassCount = 8;
  static constexpr size_t kSlackBytes = 4096;
  static constexpr size_t kMaximumCachedBytes = 32 * 1024 * 1024;

  ChunkPool() = default;
  ChunkPool(const ChunkPool&) = delete;
  ChunkPool& operator=(const ChunkPool&) = delete;
  ~ChunkPool();

  // Empty when there is no memory. The chunk counts on `account_bytes` as long
  // as it lives.
  ChunkRef acquire(size_t at_least_bytes, size_t& account_bytes) noexcept;

  // Takes what a few busy connections need beforehand, and keeps it in memory:
  // for clients that hold up the very memory that a chunk would need.
  void reserve() noexcept;

 private:
  friend class ChunkRef;
  void release(Chunk* chunk) noexcept;

  std::array<Chunk*, kClassCount> free_{};
  size_t cached_bytes_ = 0;
};

}  // namespace tidemark::nbd
