// Capture: the blocks frozen by a checkpoint, readable as they were at that
// instant until released (copy-before-write).
//
// A block of the capture is frozen, then copying while its old content is being
// saved for a writer, then saved; released from any of these once its bytes are
// where they are needed. A write to a frozen block waits for that one copy,
// never for the capture's reader. Saved blocks live in memory up to a limit,
// then in a spill file; when that is full, or a saving read fails, the capture
// breaks, and the guest's write goes on.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "bitmap/dirty_bitmap.h"
#include "common/status.h"
#include "device/block_device.h"

namespace tidemark {

struct CaptureLimits {
  uint64_t memory_bytes = 64ULL << 20;
  std::string spill_path;  // empty: no spill file; created and unlinked at once
  uint64_t spill_bytes = 1ULL << 30;
};

// Which blocks a capture freezes; it lists those that changed either way.
enum class CaptureScope : uint8_t {
  kChanged,
  kWholeDisk,  // any block can be read as it was at the cut, changed or not
};

class Capture {
 public:
  virtual ~Capture() = default;

  virtual uint64_t disk_size_bytes() const noexcept = 0;
  virtual uint32_t granularity_bytes() const noexcept = 0;
  virtual uint64_t dirty_bytes() const noexcept = 0;

  // As DirtyBitmap::next_extent, over the blocks of the capture.
  virtual std::optional<ByteExtent> next_extent(uint64_t from_bytes,
                                                uint64_t max_bytes) const noexcept = 0;

  // The content at the cut; blocks, so never on an I/O or event-loop thread.
  // kCaptureBroken once broken, kInvalidArgument outside the blocks in its scope.
  // Before it answers kOk it has made sure that nothing it read was newer.
  virtual Status read(uint64_t offset_bytes, std::span<std::byte> into) = 0;

  // "base:allocation" of the content that read() answers; as BlockDevice::query_extents.
  // kClosed and kCaptureBroken: nobody knows any more.
  virtual Status query_allocation(uint64_t offset_bytes, uint64_t length_bytes, size_t max_extents,
                                  std::vector<DeviceExtent>& extents) = 0;

  // These blocks (rounding in) are not needed any more: writers stop saving them.
  virtual void release(uint64_t offset_bytes, uint64_t length_bytes) noexcept = 0;

  virtual bool is_open() const noexcept = 0;
  virtual bool is_broken() const noexcept = 0;
  virtual std::string broken_reason() const = 0;
  virtual uint64_t saved_bytes() const noexcept = 0;  // copied before a write, so far

  // Ends the capture; the bits in the bitmap are the caller's to commit or give
  // back (TrackedDevice), which it can only now. Idempotent; waits for the spill
  // thread, so never on an I/O thread. The destructor does it too.
  virtual void close() noexcept = 0;
};

}  // namespace tidemark
