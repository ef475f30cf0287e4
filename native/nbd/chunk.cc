#include "nbd/chunk.h"

#include <cassert>
#include <cstdlib>
#include <iterator>
#include <new>

#include "common/io_flusher.h"

namespace tidemark::nbd {

namespace {

constexpr size_t kAlignmentBytes = 4096;

// By class, from 256 KiB on: headers, receives, and the kernel's largest requests.
constexpr size_t kReservedCounts[] = {8, 8, 0, 3};

size_t capacity_of(size_t size_class) noexcept {
  return (ChunkPool::kSmallestBytes << size_class) + ChunkPool::kSlackBytes;
}

size_t class_for(size_t bytes) noexcept {
  size_t size_class = 0;
  while (capacity_of(size_class) < bytes) ++size_class;
  assert(size_class < ChunkPool::kClassCount);
  return size_class;
}

Chunk* allocate(size_t size_class) noexcept {
  auto* chunk = new (std::nothrow) Chunk;
  if (chunk == nullptr) return nullptr;
  void* bytes = nullptr;
  if (posix_memalign(&bytes, kAlignmentBytes, capacity_of(size_class)) != 0) {
    delete chunk;
    return nullptr;
  }
  chunk->bytes = static_cast<std::byte*>(bytes);
  chunk->capacity_bytes = capacity_of(size_class);
  chunk->size_class = size_class;
  return chunk;
}

void destroy(Chunk* chunk) noexcept {
  std::free(chunk->bytes);
  delete chunk;
}

}  // namespace

void ChunkRef::reset() noexcept {
  Chunk* chunk = std::exchange(chunk_, nullptr);
  if (chunk != nullptr && --chunk->reference_count == 0) chunk->home->release(chunk);
}

ChunkPool::~ChunkPool() {
  for (Chunk* chunk : free_) {
    while (chunk != nullptr) destroy(std::exchange(chunk, chunk->next_free));
  }
}

ChunkRef ChunkPool::acquire(size_t at_least_bytes, size_t& account_bytes) noexcept {
  const size_t size_class = class_for(at_least_bytes);
  Chunk* chunk = free_[size_class];
  if (chunk != nullptr) {
    free_[size_class] = chunk->next_free;
    cached_bytes_ -= chunk->capacity_bytes;
  } else {
    chunk = allocate(size_class);
    if (chunk == nullptr) return ChunkRef();
  }
  chunk->home = this;
  chunk->account_bytes = &account_bytes;
  account_bytes += chunk->capacity_bytes;
  return ChunkRef(chunk);
}

void ChunkPool::reserve() noexcept {
  for (size_t size_class = 0; size_class < std::size(kReservedCounts); ++size_class) {
    for (size_t i = 0; i < kReservedCounts[size_class]; ++i) {
      Chunk* chunk = allocate(size_class);
      if (chunk == nullptr) return;
      lock_buffer(chunk->bytes, chunk->capacity_bytes);
      chunk->is_reserved = true;
      cached_bytes_ += chunk->capacity_bytes;
      chunk->next_free = std::exchange(free_[size_class], chunk);
    }
  }
}

void ChunkPool::release(Chunk* chunk) noexcept {
  *chunk->account_bytes -= chunk->capacity_bytes;
  if (!chunk->is_reserved && cached_bytes_ + chunk->capacity_bytes > kMaximumCachedBytes) {
    destroy(chunk);
    return;
  }
  cached_bytes_ += chunk->capacity_bytes;
  chunk->next_free = std::exchange(free_[chunk->size_class], chunk);
}

}  // namespace tidemark::nbd
