#include "tracking/capture_store.h"

#include <cstdlib>
#include <cstring>

namespace tidemark {

namespace {

constexpr size_t kPageBytes = 4096;

}  // namespace

Result<std::unique_ptr<CaptureStore>> CaptureStore::create(const CaptureLimits& limits,
                                                           uint32_t block_bytes) {
  std::unique_ptr<SpillFile> spill;
  if (!limits.spill_path.empty()) {
    auto created =
        SpillFile::create(limits.spill_path, block_bytes, limits.spill_bytes / block_bytes);
    if (!created.is_ok()) return created.status();
    spill = std::move(created).value();
  }
  return std::unique_ptr<CaptureStore>(
      new CaptureStore(limits.memory_bytes, block_bytes, std::move(spill)));
}

std::shared_ptr<std::byte> CaptureStore::allocate(uint64_t length_bytes) noexcept {
  const uint64_t rounded = (length_bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
  auto* const bytes = static_cast<std::byte*>(std::aligned_alloc(kPageBytes, rounded));
  if (bytes == nullptr) return nullptr;
  return {bytes, [](std::byte* allocated) { std::free(allocated); }};
}

bool CaptureStore::reserve(uint64_t count, std::vector<uint64_t>& spill_slots) {
  const uint64_t wanted = count * block_bytes_;
  uint64_t used = memory_used_bytes_.load();
  while (wanted <= memory_limit_bytes_ && used <= memory_limit_bytes_ - wanted) {
    if (memory_used_bytes_.compare_exchange_weak(used, used + wanted)) return true;
  }
  return spill_ != nullptr && spill_->reserve(count, spill_slots);
}

void CaptureStore::give_back(const SavedBlock& block) noexcept {
  if (block.bytes == nullptr) {
    spill_->give_back(block.spill_slot);
  } else {
    memory_used_bytes_.fetch_sub(block_bytes_);
  }
}

int CaptureStore::read(const SavedBlock& block, uint64_t offset_in_block,
                       std::span<std::byte> into) noexcept {
  if (block.bytes == nullptr) return spill_->read(block.spill_slot, offset_in_block, into);
  std::memcpy(into.data(), block.bytes.get() + offset_in_block, into.size());
  return 0;
}

void CaptureStore::close() noexcept {
  if (spill_ != nullptr) spill_->close();
}

}  // namespace tidemark
