// A disk in anonymous memory.
//
// Representation: one NORESERVE mapping, with address space for growing behind it,
// and one bit for each
// chunk of 64 KiB: a clear bit says that the chunk reads as zeroes and was never
// written since it last became so. Requests work chunk by chunk under a lock
// chosen by the chunk's number; bits change under that lock and are looked at
// without it. Cost: what was never written takes no memory but its bit, so a
// sparse disk of 1 TiB costs 2 MiB.
#include "device/memory_device.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstring>
#include <vector>

#include "common/mutex.h"
#include "device/shrinkable_device.h"

namespace tidemark {

namespace {

constexpr uint64_t kChunkBytes = 64 * 1024;
constexpr uint64_t kBitsPerWord = 64;
constexpr size_t kStripeCount = 64;
constexpr uint64_t kGrowthBytes = 64ULL << 30;  // of address space, or the size once more

void* reserve(uint64_t length_bytes) noexcept {
  return ::mmap(nullptr, length_bytes, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

DeviceTraits traits_of_memory() {
  DeviceTraits traits;
  traits.trim_reads_zero = true;
  traits.fast_zero = true;
  traits.cheap_extents = true;
  traits.engine = "memory";
  return traits;
}

class MemoryDevice final : public BlockDevice, public ShrinkableDevice {
 public:
  MemoryDevice(uint64_t size_bytes, std::byte* base, uint64_t mapped_bytes)
      : mapped_bytes_(mapped_bytes),
        base_(base),
        size_bytes_(size_bytes),
        allocated_(mapped_bytes / (kChunkBytes * kBitsPerWord) + 1) {}
  ~MemoryDevice() override { ::munmap(base_, mapped_bytes_); }
  MemoryDevice(const MemoryDevice&) = delete;
  MemoryDevice& operator=(const MemoryDevice&) = delete;

  uint64_t size_bytes() const noexcept override {
    return size_bytes_.load(std::memory_order_acquire);
  }
  Status resize(uint64_t size_bytes) override;
  Status shrink(uint64_t size_bytes) override;
  const DeviceTraits& traits() const noexcept override { return traits_; }
  void submit(IoRequest& request) noexcept override;
  Status query_extents(std::string_view context, uint64_t offset_bytes, uint64_t length_bytes,
                       size_t max_extents, std::vector<DeviceExtent>& extents) override;

 private:
  bool is_allocated(uint64_t chunk) const noexcept;
  void set_allocated(uint64_t chunk, bool allocated) noexcept;
  uint64_t end_of_run(uint64_t chunk, uint64_t end_chunk, bool allocated) const noexcept;

  template <typename PartFn>
  void for_each_chunk(const IoRequest& request, PartFn part) noexcept;
  void read(const IoRequest& request) noexcept;
  void write(const IoRequest& request) noexcept;
  void zero(const IoRequest& request) noexcept;
  void zero_part(uint64_t chunk, uint64_t offset_bytes, uint64_t length_bytes,
                 bool keep_allocated) noexcept;

  const uint64_t mapped_bytes_;
  std::byte* const base_;
  // Grows under the stripe of the last chunk, which is the longer by it.
  std::atomic<uint64_t> size_bytes_;
  const DeviceTraits traits_ = traits_of_memory();
  // Set and cleared under the chunk's stripe.
  std::vector<std::atomic<uint64_t>> allocated_;
  // Stripe i guards the content of the chunks whose number is i modulo the count.
  std::array<Mutex, kStripeCount> stripes_;
};

void MemoryDevice::submit(IoRequest& request) noexcept {
  switch (request.op) {
    case IoOp::kRead:
      read(request);
      break;
    case IoOp::kWrite:
      write(request);
      break;
    case IoOp::kTrim:
    case IoOp::kWriteZeroes:
      zero(request);
      break;
    case IoOp::kFlush:
    case IoOp::kCache:
      break;
  }
  request.complete(0);
}

bool MemoryDevice::is_allocated(uint64_t chunk) const noexcept {
  const uint64_t word = allocated_[chunk / kBitsPerWord].load(std::memory_order_relaxed);
  return (word >> (chunk % kBitsPerWord) & 1) != 0;
}

void MemoryDevice::set_allocated(uint64_t chunk, bool allocated) noexcept {
  std::atomic<uint64_t>& word = allocated_[chunk / kBitsPerWord];
  const uint64_t bit = 1ULL << (chunk % kBitsPerWord);
  if (allocated) {
    word.fetch_or(bit, std::memory_order_relaxed);
  } else {
    word.fetch_and(~bit, std::memory_order_relaxed);
  }
}

// The first chunk in [chunk, end_chunk) that is not `allocated`, else end_chunk.
uint64_t MemoryDevice::end_of_run(uint64_t chunk, uint64_t end_chunk,
                                  bool allocated) const noexcept {
  while (chunk < end_chunk) {
    uint64_t word = allocated_[chunk / kBitsPerWord].load(std::memory_order_relaxed);
    if (allocated) word = ~word;
    word >>= chunk % kBitsPerWord;
    if (word != 0) return std::min<uint64_t>(chunk + std::countr_zero(word), end_chunk);
    chunk = (chunk / kBitsPerWord + 1) * kBitsPerWord;
  }
  return end_chunk;
}

// Calls part(chunk, offset, length, position in the request) for each chunk's share.
template <typename PartFn>
void MemoryDevice::for_each_chunk(const IoRequest& request, PartFn part) noexcept {
  for (uint64_t offset = request.offset_bytes; offset < request.end_bytes();) {
    const uint64_t chunk = offset / kChunkBytes;
    const uint64_t end = std::min((chunk + 1) * kChunkBytes, request.end_bytes());
    part(chunk, offset, end - offset, offset - request.offset_bytes);
    offset = end;
  }
}

void MemoryDevice::read(const IoRequest& request) noexcept {
  for_each_chunk(request, [&](uint64_t chunk, uint64_t offset, uint64_t length, uint64_t position) {
    const MutexLock lock(stripes_[chunk % kStripeCount]);
    if (is_allocated(chunk)) {
      std::memcpy(request.data + position, base_ + offset, length);
    } else {
      std::memset(request.data + position, 0, length);
    }
  });
}

void MemoryDevice::write(const IoRequest& request) noexcept {
  for_each_chunk(request, [&](uint64_t chunk, uint64_t offset, uint64_t length, uint64_t position) {
    const MutexLock lock(stripes_[chunk % kStripeCount]);
    std::memcpy(base_ + offset, request.data + position, length);
    set_allocated(chunk, true);
  });
}

void MemoryDevice::zero(const IoRequest& request) noexcept {
  const bool keep_allocated = request.op == IoOp::kWriteZeroes && (request.flags & kIoNoHole) != 0;
  const uint64_t end_chunk = (request.end_bytes() - 1) / kChunkBytes + 1;
  for (uint64_t chunk = request.offset_bytes / kChunkBytes; chunk < end_chunk; ++chunk) {
    if (!keep_allocated) chunk = end_of_run(chunk, end_chunk, false);
    if (chunk == end_chunk) break;
    const uint64_t begin = std::max(chunk * kChunkBytes, request.offset_bytes);
    const uint64_t end = std::min((chunk + 1) * kChunkBytes, request.end_bytes());
    zero_part(chunk, begin, end - begin, keep_allocated);
  }
}

void MemoryDevice::zero_part(uint64_t chunk, uint64_t offset_bytes, uint64_t length_bytes,
                             bool keep_allocated) noexcept {
  const MutexLock lock(stripes_[chunk % kStripeCount]);
  const uint64_t chunk_bytes = std::min(kChunkBytes, size_bytes() - chunk * kChunkBytes);
  const bool whole = length_bytes == chunk_bytes;
  if (!is_allocated(chunk)) {
    if (keep_allocated) set_allocated(chunk, true);
  } else if (whole && !keep_allocated &&
             ::madvise(base_ + offset_bytes, length_bytes, MADV_DONTNEED) == 0) {
    set_allocated(chunk, false);
  } else {
    std::memset(base_ + offset_bytes, 0, length_bytes);
  }
}

Status MemoryDevice::resize(uint64_t size_bytes) {
  const uint64_t present_bytes = size_bytes_.load();
  if (size_bytes < present_bytes || size_bytes > mapped_bytes_) {
    return {ErrorCode::kInvalidArgument, "Cannot resize the disk in memory: because it can have " +
                                             std::to_string(present_bytes) + " to " +
                                             std::to_string(mapped_bytes_) + " bytes, not " +
                                             std::to_string(size_bytes) + "."};
  }
  const MutexLock lock(stripes_[present_bytes / kChunkBytes % kStripeCount]);
  size_bytes_.store(size_bytes, std::memory_order_release);
  return Status::ok();
}

Status MemoryDevice::shrink(uint64_t size_bytes) {
  const uint64_t present_bytes = size_bytes_.load();
  if (size_bytes == 0 || size_bytes >= present_bytes) {
    return {ErrorCode::kInvalidArgument, "Cannot shrink the disk in memory: because it has " +
                                             std::to_string(present_bytes) + " bytes, not more."};
  }
  size_bytes_.store(size_bytes, std::memory_order_release);
  IoRequest cut;
  cut.op = IoOp::kWriteZeroes;
  cut.offset_bytes = size_bytes;
  cut.length_bytes = present_bytes - size_bytes;
  zero(cut);
  return Status::ok();
}

Status MemoryDevice::query_extents(std::string_view context, uint64_t offset_bytes,
                                   uint64_t length_bytes, size_t max_extents,
                                   std::vector<DeviceExtent>& extents) {
  if (context != "base:allocation") {
    return BlockDevice::query_extents(context, offset_bytes, length_bytes, max_extents, extents);
  }
  const uint64_t end_bytes = offset_bytes + length_bytes;
  for (size_t count = 0; count < max_extents && offset_bytes < end_bytes; ++count) {
    const uint64_t chunk = offset_bytes / kChunkBytes;
    const bool allocated = is_allocated(chunk);
    const uint64_t end_chunk = (end_bytes - 1) / kChunkBytes + 1;
    // At least the chunk itself, should its bit have changed meanwhile.
    const uint64_t run_end = std::max(end_of_run(chunk, end_chunk, allocated), chunk + 1);
    const uint64_t next = std::min(run_end * kChunkBytes, end_bytes);
    extents.push_back({next - offset_bytes, allocated ? 0 : kExtentHole | kExtentZero});
    offset_bytes = next;
  }
  return Status::ok();
}

}  // namespace

std::shared_ptr<BlockDevice> make_memory_device(uint64_t size_bytes) {
  constexpr uint64_t kAddressSpaceBytes = 1ULL << 46;
  uint64_t mapped_bytes =
      size_bytes + std::max(std::min(size_bytes, kAddressSpaceBytes), kGrowthBytes);
  void* base = reserve(mapped_bytes);
  if (base == MAP_FAILED) {
    mapped_bytes = std::max<uint64_t>(size_bytes, 1);
    base = reserve(mapped_bytes);
  }
  if (base == MAP_FAILED) return nullptr;
  // A huge page would take 2 MiB for a block of 4 KiB.
  ::madvise(base, mapped_bytes, MADV_NOHUGEPAGE);
  return std::make_shared<MemoryDevice>(size_bytes, static_cast<std::byte*>(base), mapped_bytes);
}

}  // namespace tidemark
