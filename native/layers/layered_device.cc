#include "layers/layered_device.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "layers/granule_hold.h"
#include "layers/scratch_change.h"

namespace tidemark {

namespace {

constexpr uint32_t kLargestPreferredBlock = 64 * 1024;

std::optional<FileIdentity> identity_of(const std::string& path) {
  struct stat info {};
  if (path.empty() || ::stat(path.c_str(), &info) != 0) return std::nullopt;
  return FileIdentity{info.st_dev, info.st_ino};
}

}  // namespace

LayeredDevice::LayeredDevice(uint64_t size_bytes, std::unique_ptr<LayerStack> below,
                             OpenScratch scratch, std::string base_path)
    : size_bytes_(size_bytes),
      below_(std::move(below)),
      scratch_(std::move(scratch)),
      base_path_(std::move(base_path)),
      base_file_(identity_of(base_path_)),
      opened_{DiskContent(*below_, scratch_.scratch.get()), scratch_.scratch.get()},
      route_(&opened_) {
  traits_.minimum_block_bytes = below_->base().traits().minimum_block_bytes;
  traits_.read_only = scratch_.scratch == nullptr;
  traits_.rotational = below_->base().traits().rotational;
  traits_.trim_reads_zero = true;
  traits_.fast_zero = true;
  traits_.engine = "layers";
  if (scratch_.scratch != nullptr) {
    // Writes of whole granules need no fill.
    const auto granularity = static_cast<uint32_t>(scratch_.scratch->granularity_bytes());
    traits_.preferred_block_bytes =
        std::clamp(granularity, traits_.preferred_block_bytes, kLargestPreferredBlock);
  }
}

bool LayeredDevice::is_base(const std::string& path) const noexcept {
  return base_path_.empty() || (base_file_ && identity_of(path) == base_file_);
}

void LayeredDevice::submit(IoRequest& request) noexcept {
  assert(request.end_bytes() <= size_bytes_);
  const Route& now = route();
  if (now.raw != nullptr) return now.raw->submit(request);
  if (request.op == IoOp::kRead) return now.content.read(request);
  if (request.op == IoOp::kCache) return request.complete(0);
  if (now.scratch == nullptr) return request.complete(request.op == IoOp::kFlush ? 0 : EROFS);
  if (request.op == IoOp::kFlush) return flush(request, now);
  ScratchChange::start(request, *now.scratch, now.content);
}

// What was written before the fold is in the scratch; then what came since.
void LayeredDevice::flush(IoRequest& request, const Route& now) noexcept {
  if (!now.is_folding || is_scratch_durable_.load()) {
    return now.scratch->flusher().flush(request);
  }
  request.push(
      [](IoRequest& done, void* context, uint64_t, int error) noexcept {
        if (error != 0) return done.complete(error);
        static_cast<Scratch*>(context)->flusher().flush(done);
      },
      now.scratch);
  scratch_.scratch->flusher().flush(request);
}

// Who waits for a claim meanwhile is passed on, to the new route.
void LayeredDevice::switch_to(Scratch& from, const Route& to) {
  const GranuleHold all(from.locks(), 0, from.granule_count());
  from.hand_over_to(*this);
  route_.store(&to, std::memory_order_release);
}

void LayeredDevice::start_folding(std::unique_ptr<Scratch> base) {
  base_ = std::move(base);
  folding_.emplace(Route{DiskContent(opened_.content, base_.get()), base_.get(), true});
  switch_to(*scratch_.scratch, *folding_);
}

void LayeredDevice::finish_folding() {
  BlockDevice& base = base_->data();
  if (folded_ || !base.traits().trim_reads_zero) return;
  folded_.emplace(Route{DiskContent(opened_.content, base_.get()), base_.get(), true, &base});
  switch_to(*base_, *folded_);
}

Result<DeviceExtent> LayeredDevice::extent_at(const Route& now, uint64_t offset_bytes,
                                              uint64_t max_bytes) const {
  const SourceRun run = now.content.find(offset_bytes, max_bytes);
  if (run.device == nullptr) return DeviceExtent{run.length_bytes, kExtentHole | kExtentZero};
  const bool in_folded_base = now.is_folding && run.device == &now.scratch->data();
  if (run.device != &below_->base() && !in_folded_base) return DeviceExtent{run.length_bytes, 0};
  std::vector<DeviceExtent> of_base;
  const Status status = run.device->query_extents("base:allocation", run.device_offset_bytes,
                                                  run.length_bytes, 1, of_base);
  if (!status.is_ok()) return status;
  if (of_base.empty()) return DeviceExtent{run.length_bytes, 0};
  return DeviceExtent{std::min(run.length_bytes, of_base[0].length_bytes), of_base[0].flags};
}

Status LayeredDevice::query_extents(std::string_view context, uint64_t offset_bytes,
                                    uint64_t length_bytes, size_t max_extents,
                                    std::vector<DeviceExtent>& extents) {
  if (context != "base:allocation") {
    return BlockDevice::query_extents(context, offset_bytes, length_bytes, max_extents, extents);
  }
  const Route& now = route();
  if (now.raw != nullptr) {
    return now.raw->query_extents(context, offset_bytes, length_bytes, max_extents, extents);
  }
  const size_t first = extents.size();
  while (length_bytes > 0) {
    const Result<DeviceExtent> next = extent_at(now, offset_bytes, length_bytes);
    if (!next.is_ok()) return next.status();
    const DeviceExtent extent = next.value();
    if (extents.size() > first && extents.back().flags == extent.flags) {
      extents.back().length_bytes += extent.length_bytes;
    } else if (extents.size() - first < max_extents) {
      extents.push_back(extent);
    } else {
      break;
    }
    offset_bytes += extent.length_bytes;
    length_bytes -= extent.length_bytes;
  }
  return Status::ok();
}

}  // namespace tidemark
