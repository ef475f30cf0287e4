// Disks that lose power, and what may be on them afterwards.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <vector>

#include "device/sync_io.h"
#include "layer_builder.h"

namespace tidemark {

inline constexpr uint64_t kSectorBytes = 512;

// A disk with a volatile cache. A crash keeps any sectors of what was written
// since the last flush. Completes inline; one thread.
class VolatileDevice final : public BlockDevice {
 public:
  explicit VolatileDevice(uint64_t size) : now_(size), durable_(size) {}

  uint64_t size_bytes() const noexcept override { return now_.size(); }
  const DeviceTraits& traits() const noexcept override { return traits_; }

  void submit(IoRequest& request) noexcept override {
    std::byte* at = now_.data() + request.offset_bytes;
    switch (request.op) {
      case IoOp::kRead:
        std::memcpy(request.data, at, request.length_bytes);
        break;
      case IoOp::kFlush:
        durable_ = now_;
        kept_.clear();
        break;
      case IoOp::kWrite:
        std::memcpy(at, request.data, request.length_bytes);
        remember(request);
        break;
      default:
        std::memset(at, 0, request.length_bytes);
        remember(request);
    }
    request.complete(0);
  }

  // What was flushed is there, and nothing else.
  void crash_keeping_nothing() {
    kept_.clear();
    now_ = durable_;
  }

  // Some sectors as they were at some time since the flush, the others as flushed.
  void crash(std::mt19937_64& random) {
    const unsigned luck = 1 + random() % 9;
    for (const auto& [sector, contents] : kept_) {
      if (random() % 10 >= luck) continue;
      const LayerBytes& content = contents[random() % contents.size()];
      std::copy(content.begin(), content.end(), durable_.begin() + static_cast<ptrdiff_t>(sector));
    }
    kept_.clear();
    now_ = durable_;
  }

 private:
  void remember(const IoRequest& request) {
    uint64_t sector = request.offset_bytes / kSectorBytes * kSectorBytes;
    for (; sector < request.end_bytes(); sector += kSectorBytes) {
      const auto at = now_.begin() + static_cast<ptrdiff_t>(sector);
      const uint64_t length = std::min(kSectorBytes, now_.size() - sector);
      kept_[sector].emplace_back(at, at + static_cast<ptrdiff_t>(length));
    }
  }

  LayerBytes now_;
  LayerBytes durable_;
  std::map<uint64_t, std::vector<LayerBytes>> kept_;
  DeviceTraits traits_;
};

// What each sector may hold after a crash: what it held at the last flush, or
// anything it was given since.
class CrashModel {
 public:
  explicit CrashModel(const LayerBytes& content) : now_(content) { flushed(); }

  void put(uint64_t offset, const LayerBytes& content) {
    std::copy(content.begin(), content.end(), now_.begin() + static_cast<ptrdiff_t>(offset));
    for (uint64_t s = offset / kSectorBytes; s * kSectorBytes < offset + content.size(); ++s) {
      allowed_[s].insert(sector(now_, s));
    }
  }
  void flushed() {
    allowed_.clear();
    for (uint64_t s = 0; s * kSectorBytes < now_.size(); ++s) allowed_[s] = {sector(now_, s)};
  }
  const LayerBytes& now() const { return now_; }

  // Takes what it finds as what is there, if it is allowed.
  void check_after_restart(const LayerBytes& seen, bool power_was_lost) {
    uint64_t wrong = 0;
    for (auto& [s, allowed] : allowed_) wrong += !allowed.contains(sector(seen, s));
    REQUIRE(wrong == 0);
    now_ = seen;
    if (power_was_lost) flushed();
  }

 private:
  static LayerBytes sector(const LayerBytes& bytes, uint64_t number) {
    const auto at = bytes.begin() + static_cast<ptrdiff_t>(number * kSectorBytes);
    return {at, at + static_cast<ptrdiff_t>(
                         std::min(kSectorBytes, bytes.size() - number * kSectorBytes))};
  }

  LayerBytes now_;
  std::map<uint64_t, std::set<LayerBytes>> allowed_;
};

// Passes on to a device, but loses power (fails everything) after some requests.
class DyingDevice final : public BlockDevice {
 public:
  DyingDevice(std::shared_ptr<BlockDevice> inner, uint64_t* requests_left)
      : inner_(std::move(inner)), requests_left_(requests_left) {}
  uint64_t size_bytes() const noexcept override { return inner_->size_bytes(); }
  const DeviceTraits& traits() const noexcept override { return inner_->traits(); }
  void submit(IoRequest& request) noexcept override {
    if (*requests_left_ == 0) return request.complete(EIO);
    --*requests_left_;
    inner_->submit(request);
  }

 private:
  std::shared_ptr<BlockDevice> inner_;
  uint64_t* requests_left_;
};

inline LayerBytes content_of(BlockDevice& disk) {
  LayerBytes content(disk.size_bytes());
  REQUIRE(read_sync(disk, 0, content).is_ok());
  return content;
}

}  // namespace tidemark
