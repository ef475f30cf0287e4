#include "device/block_hashes.h"

#include <algorithm>

#include "common/sha256.h"
#include "device/aligned_read.h"

namespace tidemark {

namespace {

constexpr uint64_t kPieceBytes = 1 << 20;

Status read_padded(BlockDevice& device, uint64_t offset_bytes, std::span<std::byte> into) {
  const uint64_t size_bytes = device.size_bytes();
  const uint64_t inside_bytes =
      offset_bytes < size_bytes ? std::min<uint64_t>(into.size(), size_bytes - offset_bytes) : 0;
  std::ranges::fill(into.subspan(inside_bytes), std::byte{0});
  return inside_bytes == 0 ? Status::ok()
                           : read_aligned(device, offset_bytes, into.first(inside_bytes));
}

void append_hashes(std::span<const std::byte> content, uint64_t block_bytes,
                   std::vector<std::byte>& hashes) {
  for (uint64_t from = 0; from < content.size(); from += block_bytes) {
    const Sha256 digest =
        sha256(content.subspan(from, std::min<uint64_t>(block_bytes, content.size() - from)));
    hashes.insert(hashes.end(), digest.begin(), digest.end());
  }
}

// What of the piece is damaged hashes as zeroes, which no content does.
Status append_readable_hashes(BlockDevice& device, uint64_t offset_bytes,
                              std::span<std::byte> content, uint64_t block_bytes,
                              std::vector<std::byte>& hashes) {
  for (uint64_t from = 0; from < content.size(); from += block_bytes) {
    const auto block =
        content.subspan(from, std::min<uint64_t>(block_bytes, content.size() - from));
    const Status status = read_padded(device, offset_bytes + from, block);
    if (status.is_ok()) {
      append_hashes(block, block_bytes, hashes);
    } else if (status.code() == ErrorCode::kCorrupt) {
      hashes.insert(hashes.end(), sizeof(Sha256), std::byte{0});
    } else {
      return status;
    }
  }
  return Status::ok();
}

}  // namespace

Result<std::vector<std::byte>> hash_blocks(BlockDevice& device, std::span<const HashExtent> extents,
                                           uint64_t block_bytes) {
  std::vector<std::byte> hashes;
  std::vector<std::byte> buffer(std::max(block_bytes, kPieceBytes / block_bytes * block_bytes));
  for (const HashExtent& extent : extents) {
    for (uint64_t done = 0; done < extent.length_bytes;) {
      const uint64_t length = std::min<uint64_t>(buffer.size(), extent.length_bytes - done);
      const std::span<std::byte> content(buffer.data(), length);
      const uint64_t offset_bytes = extent.offset_bytes + done;
      Status status = read_padded(device, offset_bytes, content);
      if (status.is_ok()) {
        append_hashes(content, block_bytes, hashes);
      } else if (status.code() == ErrorCode::kCorrupt) {
        status = append_readable_hashes(device, offset_bytes, content, block_bytes, hashes);
      }
      if (!status.is_ok()) return status;
      done += length;
    }
  }
  return hashes;
}

}  // namespace tidemark
