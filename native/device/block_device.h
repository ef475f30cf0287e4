// BlockDevice: the one seam of the data plane.
//
// Contract, which every implementation's tests run (native/test/device_contract.h):
//  - submit() takes any request inside [0, size), of length > 0 (a flush has
//    length 0), from any thread, and completes it exactly once: inline or later
//    on any thread. Several may be in flight; overlapping ones have no order.
//  - A read fills the whole buffer. A write-class request that completes with an
//    error may have had any part of its effect.
//  - A flush covers every write-class request that completed before it was
//    submitted; with kIoFua the request itself is durable at its completion.
//  - size_bytes() may grow while requests are in flight, and shrinks only where its
//    owner asked for that (ShrinkableDevice); what resize() added reads as zeroes
//    where the storage can promise that (a file).
//  - Requests never fail for a reason that passes by itself (EINTR, EAGAIN).
//  - Destruction waits for nothing: the owner has seen every completion before.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"
#include "device/backing_facts.h"
#include "device/image_lock.h"
#include "device/io_request.h"

namespace tidemark {

struct DeviceTraits {
  uint32_t minimum_block_bytes = 1;  // offsets and lengths are multiples of it
  uint32_t preferred_block_bytes = 4096;
  bool read_only = false;
  bool rotational = false;
  bool trim_reads_zero = false;  // after a trim that succeeded the range reads as zeroes
  bool fast_zero = false;        // write-zeroes is quicker than writing zeroes
  bool can_flush = true;
  bool can_cache = false;      // kCache may have an effect; else it completes at once
  bool cheap_extents = false;  // base:allocation is known from memory, in microseconds
  std::string engine;          // for people: "io_uring", "threads", "memory"
};

// Extents of a named context ("base:allocation", "qemu:dirty-bitmap:NAME"):
// consecutive, covering from the query's offset, in the context's own flags.
struct DeviceExtent {
  uint64_t length_bytes;
  uint32_t flags;
};
inline constexpr uint32_t kExtentHole = 1U << 0;   // base:allocation
inline constexpr uint32_t kExtentZero = 1U << 1;   // base:allocation
inline constexpr uint32_t kExtentDirty = 1U << 0;  // qemu:dirty-bitmap:*

class BlockDevice {
 public:
  virtual ~BlockDevice() = default;

  virtual uint64_t size_bytes() const noexcept = 0;
  virtual const DeviceTraits& traits() const noexcept = 0;
  virtual void submit(IoRequest& request) noexcept = 0;

  // Grows to `size_bytes`, durably, under running requests; the same size is no
  // change. Blocks; one call at a time. kInvalidArgument: smaller, or nothing that
  // the device can have. kUnsupported where it cannot grow at all.
  virtual Status resize(uint64_t size_bytes);

  // Changes how the image is locked (device/image_lock.h), as at the end of a
  // hand-over. kInUse: somebody's lock contradicts it, and ours is as it was. What
  // has no such lock answers kOk.
  virtual Status lock_image(ImageLockMode /*mode*/) { return Status::ok(); }

  // Context names that query_extents() answers; "base:allocation" always is.
  virtual std::vector<std::string> extent_contexts() const { return {"base:allocation"}; }

  // The one of extent_contexts() that `name` stands for: itself, or another name that
  // the device lets people say for it. Empty: none.
  virtual std::string resolve_context(std::string_view name) const;

  // Appends at most `max_extents` extents that cover [offset, offset + length)
  // or a prefix of it; neighbours of equal flags may stay apart. Any thread; never
  // waits for requests. Where traits().cheap_extents is false base:allocation may
  // take as long as a disk or another server does: not on an I/O thread. Its
  // default answer is "all data", which is always true enough.
  virtual Status query_extents(std::string_view context, uint64_t offset_bytes,
                               uint64_t length_bytes, size_t max_extents,
                               std::vector<DeviceExtent>& extents);

  // Rises each time the device lost touch with what holds its data (an upstream
  // that reconnected): what was written since the last good flush is then suspect.
  virtual uint64_t loss_count() const noexcept { return 0; }

  // What tells this backing from another one, for a fingerprint. Knows nothing by default.
  virtual Result<BackingFacts> facts() const { return BackingFacts{}; }

  // Before the end, from any thread: requests that something outside of the process
  // holds up (an upstream that is away) fail with ESHUTDOWN, as do all that follow.
  virtual void give_up() noexcept {}
};

}  // namespace tidemark
