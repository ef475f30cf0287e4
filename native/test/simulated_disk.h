// A disk with a volatile write cache, in memory and sparse: 10^5 blocks cost nothing.
//
// Representation: what each sector holds is one number (the guest of a simulation
// fills a sector with it), in the cache, on the medium, and each that it held since
// the last flush. Power loss leaves of every sector any of these. Requests that are
// held have had no effect yet; a crash, of the process too, may still bring any
// part of them about, for the kernel has them.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "device/block_device.h"
#include "simulated_page_cache.h"

namespace tidemark::simulation {

inline constexpr uint64_t kBlockBytes = 4096;
inline constexpr uint64_t kSectorsPerBlock = kBlockBytes / kSectorBytes;
using BlockContent = std::array<uint64_t, kSectorsPerBlock>;

class SimulatedDisk final : public BlockDevice {
 public:
  explicit SimulatedDisk(uint64_t size_bytes) : size_bytes_(size_bytes) {
    traits_.minimum_block_bytes = kSectorBytes;
    traits_.trim_reads_zero = true;
    traits_.engine = "simulated";
  }

  // Before a request has its effect. An errno that is not 0 makes it fail, a write
  // after any part of its effect.
  std::function<int(const IoRequest&)> on_step;
  bool pretends_to_flush = false;
  // These wait for let_go().
  std::function<bool(const IoRequest&)> holds;

  uint64_t size_bytes() const noexcept override { return size_bytes_; }
  const DeviceTraits& traits() const noexcept override { return traits_; }
  void set_trim_reads_zero(bool reads_zero) { traits_.trim_reads_zero = reads_zero; }
  void submit(IoRequest& request) noexcept override {
    if (holds && holds(request)) {
      held_.push_back(&request);
    } else {
      finish(request);
    }
  }
  size_t held_count() const { return held_.size(); }
  void let_go(size_t index) {
    IoRequest* const request = held_.at(index);
    held_.erase(held_.begin() + static_cast<std::ptrdiff_t>(index));
    finish(*request);
  }
  Status resize(uint64_t size_bytes) override {
    size_bytes_ = size_bytes;
    return Status::ok();
  }

  BlockContent block(uint64_t block_index) const {
    BlockContent content{};
    for (uint64_t i = 0; i < kSectorsPerBlock; ++i) {
      const auto found = cache_.find(block_index * kSectorsPerBlock + i);
      if (found != cache_.end()) content[i] = found->second;
    }
    return content;
  }
  const std::set<uint64_t>& touched_blocks() const { return touched_; }

  std::shared_ptr<SimulatedDisk> after_process_crash(Random& random) const {
    auto after = copy();
    after->versions_ = versions_;
    after->medium_ = medium_;
    for (const IoRequest* request : held_) after->affect_partly(*request, random);
    return after;
  }
  std::shared_ptr<SimulatedDisk> after_power_loss(Loss loss, Random& random) const {
    auto after = after_process_crash(random);
    for (const auto& [sector, versions] : after->versions_) {
      const size_t choice = loss == Loss::kAll ? 0 : random() % (versions.size() + 1);
      if (choice > 0) after->medium_[sector] = versions[choice - 1];
    }
    after->versions_.clear();
    after->cache_ = after->medium_;
    return after;
  }

 private:
  using Sectors = std::map<uint64_t, uint64_t>;

  std::shared_ptr<SimulatedDisk> copy() const {
    auto made = std::make_shared<SimulatedDisk>(size_bytes_);
    made->traits_ = traits_;
    made->cache_ = cache_;
    made->touched_ = touched_;
    return made;
  }

  void finish(IoRequest& request) noexcept {
    const int error = on_step ? on_step(request) : 0;
    if (error != 0) {
      Random random(request.offset_bytes + cache_.size());
      if (request.is_write_class()) affect_partly(request, random);
    } else if (request.op == IoOp::kRead) {
      read(request);
    } else if (request.op == IoOp::kFlush) {
      if (!pretends_to_flush) flush();
    } else if (request.is_write_class()) {
      for (uint64_t at = 0; at < request.length_bytes; at += kSectorBytes) affect(request, at);
    }
    request.complete(error);
  }
  void read(const IoRequest& request) const noexcept {
    for (uint64_t at = 0; at < request.length_bytes; at += kSectorBytes) {
      const auto found = cache_.find((request.offset_bytes + at) / kSectorBytes);
      const uint64_t value = found == cache_.end() ? 0 : found->second;
      for (uint64_t word = 0; word < kSectorBytes; word += sizeof value) {
        std::memcpy(request.data + at + word, &value, sizeof value);
      }
    }
  }
  // The sector at this place of a write-class request.
  void affect(const IoRequest& request, uint64_t at) {
    const uint64_t sector = (request.offset_bytes + at) / kSectorBytes;
    uint64_t value = 0;
    if (request.op == IoOp::kWrite) std::memcpy(&value, request.data + at, sizeof value);
    touched_.insert(sector / kSectorsPerBlock);
    cache_[sector] = value;
    versions_[sector].push_back(value);
    if ((request.flags & kIoFua) == 0) return;
    medium_[sector] = value;
    versions_.erase(sector);
  }
  void affect_partly(const IoRequest& request, Random& random) {
    if (!request.is_write_class()) return;
    for (uint64_t at = 0; at < request.length_bytes; at += kSectorBytes) {
      if (random() % 2 == 0) affect(request, at);
    }
  }
  void flush() {
    medium_ = cache_;
    versions_.clear();
  }

  uint64_t size_bytes_;
  DeviceTraits traits_;
  Sectors cache_;  // what reads see
  Sectors medium_;
  std::map<uint64_t, std::vector<uint64_t>> versions_;  // since the last flush, oldest first
  std::set<uint64_t> touched_;
  std::vector<IoRequest*> held_;
};

}  // namespace tidemark::simulation
