#include "layers/disk_content.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <new>

namespace tidemark {

namespace {

// A read whose bytes are in several places: one request for each. Deletes itself.
class ScatteredRead {
 public:
  explicit ScatteredRead(IoRequest& parent) noexcept : parent_(parent) {}

  void start(const DiskContent& content, SourceRun run) noexcept;

 private:
  struct Part : IoRequest {};

  void submit_part(uint64_t done_bytes, const SourceRun& run) noexcept;
  void part_done(int error) noexcept;
  static void finish_part(IoRequest& part, void* context, uint64_t word, int error) noexcept;

  IoRequest& parent_;
  // One is start()'s own, so that the read cannot end before all parts are sent.
  std::atomic<uint64_t> pending_{1};
  std::atomic<int> first_error_{0};
};

void ScatteredRead::part_done(int error) noexcept {
  int none = 0;
  if (error != 0) first_error_.compare_exchange_strong(none, error, std::memory_order_relaxed);
  if (pending_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  IoRequest& parent = parent_;
  const int result = first_error_.load(std::memory_order_relaxed);
  delete this;
  parent.complete(result);
}

void ScatteredRead::finish_part(IoRequest& part, void* context, uint64_t /*word*/,
                                int error) noexcept {
  delete static_cast<Part*>(&part);
  static_cast<ScatteredRead*>(context)->part_done(error);
}

void ScatteredRead::submit_part(uint64_t done_bytes, const SourceRun& run) noexcept {
  auto* part = new (std::nothrow) Part;
  pending_.fetch_add(1, std::memory_order_relaxed);
  if (part == nullptr) return part_done(ENOMEM);
  part->op = IoOp::kRead;
  part->offset_bytes = run.device_offset_bytes;
  part->length_bytes = run.length_bytes;
  part->data = parent_.data + done_bytes;
  part->push(finish_part, this);
  run.device->submit(*part);
}

void ScatteredRead::start(const DiskContent& content, SourceRun run) noexcept {
  const uint64_t offset_bytes = parent_.offset_bytes;
  const uint64_t length_bytes = parent_.length_bytes;
  for (uint64_t done_bytes = 0;;) {
    if (run.device == nullptr) {
      std::memset(parent_.data + done_bytes, 0, run.length_bytes);
    } else {
      submit_part(done_bytes, run);
    }
    done_bytes += run.length_bytes;
    if (done_bytes == length_bytes) break;
    run = content.find(offset_bytes + done_bytes, length_bytes - done_bytes);
  }
  part_done(0);
}

void restore_offset(IoRequest& request, void* /*context*/, uint64_t offset_bytes,
                    int error) noexcept {
  request.offset_bytes = offset_bytes;
  request.complete(error);
}

}  // namespace

SourceRun DiskContent::find(uint64_t offset_bytes, uint64_t max_bytes) const noexcept {
  if (scratch_ == nullptr) return below_.find(offset_bytes, max_bytes);
  const uint64_t granularity = scratch_->granularity_bytes();
  const uint64_t granule = offset_bytes / granularity;
  const uint64_t within_bytes = offset_bytes % granularity;
  const uint64_t max_count = (within_bytes + max_bytes + granularity - 1) / granularity;
  const GranuleStates::Run run = scratch_->states().run_at(granule, max_count);
  const uint64_t length_bytes = std::min(max_bytes, run.count * granularity - within_bytes);
  switch (run.state) {
    case GranuleState::kData:
      return {length_bytes, &scratch_->data(), offset_bytes};
    case GranuleState::kZero:
      return {length_bytes, nullptr, 0};
    case GranuleState::kBelow:
      break;
  }
  return below_.find(offset_bytes, length_bytes);
}

void DiskContent::read(IoRequest& request) const noexcept {
  const SourceRun run = find(request.offset_bytes, request.length_bytes);
  if (run.length_bytes < request.length_bytes) {
    auto* read = new (std::nothrow) ScatteredRead(request);
    if (read == nullptr) return request.complete(ENOMEM);
    return read->start(*this, run);
  }
  if (run.device == nullptr) {
    std::memset(request.data, 0, request.length_bytes);
    return request.complete(0);
  }
  if (run.device_offset_bytes != request.offset_bytes) {
    request.push(restore_offset, nullptr, request.offset_bytes);
    request.offset_bytes = run.device_offset_bytes;
  }
  run.device->submit(request);
}

}  // namespace tidemark
