// One file of the simulated storage: what its mapping holds, what the disk holds,
// and what the disk may hold after a power loss.
//
// Representation: pages of 4 KiB. Stores through the mapping are not seen when
// they happen; observe() finds the pages that changed and keeps each content that
// it saw since the page was last made durable. A power loss leaves of each page
// the durable content or any of those, or a mixture: 8 aligned bytes from one, the
// next from another, but a sector that was written whole stays whole.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <span>
#include <vector>

namespace tidemark::simulation {

inline constexpr uint64_t kPageBytes = 4096;
inline constexpr uint64_t kSectorBytes = 512;
inline constexpr uint64_t kWordBytes = 8;

using Random = std::mt19937_64;

struct alignas(64) Page {
  std::array<std::byte, kPageBytes> bytes{};
  bool operator==(const Page& other) const { return bytes == other.bytes; }
};

// How much of what was not durable a power loss leaves.
enum class Loss : uint8_t {
  kAll,     // nothing but what was synced
  kSubset,  // of each page the durable or the newest content
  kTorn,    // any content that the page had, or a mixture of two
};

class SimulatedPages {
 public:
  uint64_t size_bytes() const { return size_bytes_; }
  void set_size(uint64_t size_bytes) {
    size_bytes_ = size_bytes;
    const uint64_t page_count = (size_bytes + kPageBytes - 1) / kPageBytes;
    cache_.resize(page_count);
    observed_.resize(page_count);
    durable_.resize(page_count);
  }
  std::byte* data() { return cache_.empty() ? nullptr : cache_[0].bytes.data(); }

  void write(uint64_t offset_bytes, std::span<const std::byte> from) {
    std::memcpy(data() + offset_bytes, from.data(), from.size());
    const uint64_t last = (offset_bytes + from.size() - 1) / kSectorBytes;
    for (uint64_t sector = offset_bytes / kSectorBytes; sector <= last; ++sector) {
      whole_sectors_.insert(sector);
    }
    observe();
  }
  void zero(uint64_t offset_bytes, uint64_t length_bytes) {
    std::memset(data() + offset_bytes, 0, length_bytes);
    observe();
  }

  // Notes the pages whose content is new since the last time.
  void observe() {
    for (uint64_t page = 0; page < cache_.size(); ++page) {
      if (cache_[page] == observed_[page]) continue;
      observed_[page] = cache_[page];
      versions_[page].push_back(std::make_shared<const Page>(cache_[page]));
    }
  }

  void sync(uint64_t offset_bytes, uint64_t length_bytes) {
    observe();
    durable_size_bytes_ = size_bytes_;
    const uint64_t end = offset_bytes + length_bytes;
    for (uint64_t page = offset_bytes / kPageBytes; page * kPageBytes < end; ++page)
      make_durable(page);
  }

  // Pages of which a power loss may leave more than one content.
  size_t unsynced_page_count() const { return versions_.size(); }

  // What is there after a power loss, synced and in the cache. `keep_newest(n)` is
  // asked for the n-th unsynced page under Loss::kSubset.
  SimulatedPages after_power_loss(Loss loss, const std::function<bool(size_t)>& keep_newest,
                                  Random& random) const {
    SimulatedPages after;
    const bool has_new_size =
        durable_size_bytes_ != size_bytes_ && loss != Loss::kAll && keep_newest(0);
    after.set_size(has_new_size ? size_bytes_ : durable_size_bytes_);
    for (uint64_t page = 0; page < after.durable_.size(); ++page)
      after.durable_[page] = durable_[page];
    size_t index = 0;
    for (const auto& [page, versions] : versions_) {
      const size_t own_index = index++;
      if (page >= after.durable_.size() || loss == Loss::kAll) continue;
      if (loss == Loss::kTorn) {
        after.durable_[page] = torn(page, versions, random);
      } else if (keep_newest(own_index)) {
        after.durable_[page] = *versions.back();
      }
    }
    after.durable_size_bytes_ = after.size_bytes_;
    after.cache_ = after.observed_ = after.durable_;
    return after;
  }

 private:
  using Version = std::shared_ptr<const Page>;

  void make_durable(uint64_t page) {
    durable_[page] = cache_[page];
    versions_.erase(page);
    const uint64_t first = page * kPageBytes / kSectorBytes;
    whole_sectors_.erase(whole_sectors_.lower_bound(first),
                         whole_sectors_.lower_bound(first + kPageBytes / kSectorBytes));
  }

  Page torn(uint64_t page, const std::vector<Version>& versions, Random& random) const {
    const auto pick = [&]() -> const Page& {
      const size_t choice = random() % (versions.size() + 1);
      return choice == versions.size() ? durable_[page] : *versions[choice];
    };
    Page result = pick();
    if (random() % 2 == 0) return result;
    const Page& other = pick();
    for (uint64_t at = 0; at < kPageBytes;) {
      const bool is_whole = whole_sectors_.count((page * kPageBytes + at) / kSectorBytes) != 0;
      const uint64_t length = is_whole ? kSectorBytes : kWordBytes;
      if (random() % 2 == 0) std::memcpy(&result.bytes[at], &other.bytes[at], length);
      at += length;
    }
    return result;
  }

  uint64_t size_bytes_ = 0;
  uint64_t durable_size_bytes_ = 0;
  std::vector<Page> cache_;     // the mapping
  std::vector<Page> observed_;  // the mapping when it was last looked at
  std::vector<Page> durable_;
  std::map<uint64_t, std::vector<Version>>
      versions_;  // by page, since it was durable, oldest first
  std::set<uint64_t> whole_sectors_;
};

}  // namespace tidemark::simulation
