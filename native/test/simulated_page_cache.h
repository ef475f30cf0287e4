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
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace tidemark::simulation {

inline constexpr uint64_t kPageBytes = 4096;
inline constexpr uint64_t kSectorBytes = 512;
inline constexpr uint64_t kWordBytes = 8;
inline constexpr uint64_t kHeartbeatAt = 520;  // of a bitmap file

using Random = std::mt19937_64;

struct alignas(64) Page {
  std::array<std::byte, kPageBytes> bytes{};
};

// How much of what was not durable a power loss leaves.
enum class Loss : uint8_t {
  kAll,     // nothing but what was synced
  kSubset,  // of each page the durable or the newest content
  kTorn,    // any content that the page had, or a mixture of two
};

class SimulatedPages {
 public:
  SimulatedPages() = default;
  // The copy's mapping is its own; contents that nobody changes any more are shared.
  SimulatedPages(const SimulatedPages& other)
      : durable_size_bytes_(other.durable_size_bytes_),
        observed_(other.observed_),
        durable_(other.durable_),
        versions_(other.versions_),
        dropped_(other.dropped_),
        whole_sectors_(other.whole_sectors_),
        used_(other.used_) {
    resize_mapping(other.size_bytes_);
    for (const uint64_t page : used_) {
      if (!other.is_zero(page)) std::memcpy(at(page), other.at(page), kPageBytes);
    }
  }
  SimulatedPages(SimulatedPages&&) = default;
  SimulatedPages& operator=(const SimulatedPages&) = delete;
  ~SimulatedPages() { mapping_.recycle(used_); }

  uint64_t size_bytes() const { return size_bytes_; }
  void set_size(uint64_t size_bytes) {
    const SimulatedPages before(*this);
    resize_mapping(size_bytes);
    for (const uint64_t page : used_) {
      if (page < page_count()) std::memcpy(at(page), before.at(page), kPageBytes);
    }
  }
  // Pages that may be stored to. The others are not looked at, which is what makes a
  // crash cheap: whoever stores elsewhere through the mapping is not simulated.
  void use(uint64_t offset_bytes, uint64_t length_bytes) {
    const uint64_t end_bytes = offset_bytes + length_bytes;
    for (uint64_t page = offset_bytes / kPageBytes; page * kPageBytes < end_bytes; ++page) {
      used_.insert(page);
    }
  }
  std::byte* data() const { return mapping_.data(); }

  void write(uint64_t offset_bytes, std::span<const std::byte> from) {
    std::memcpy(data() + offset_bytes, from.data(), from.size());
    use(offset_bytes, from.size());
    const uint64_t end_bytes = offset_bytes + from.size();
    for (uint64_t sector = offset_bytes / kSectorBytes; sector * kSectorBytes < end_bytes;
         ++sector) {
      whole_sectors_.insert(sector);
    }
    renew(offset_bytes, from.size());
    observe();
  }
  // What was written or stored is dirty, though it may be what was there.
  void renew(uint64_t offset_bytes, uint64_t length_bytes) {
    dropped_.erase(
        dropped_.lower_bound(offset_bytes / kPageBytes),
        dropped_.lower_bound((offset_bytes + length_bytes + kPageBytes - 1) / kPageBytes));
  }
  void zero(uint64_t offset_bytes, uint64_t length_bytes) {
    for (const uint64_t page : used_) {
      if (page * kPageBytes < offset_bytes || page * kPageBytes >= offset_bytes + length_bytes)
        continue;
      std::memset(at(page), 0, kPageBytes);
    }
    observe();
  }

  // Notes the pages whose content is new since the last time.
  void observe() {
    for (const uint64_t page : used_) {
      const auto known = observed_.find(page);
      if (known == observed_.end() ? is_zero(page) : holds(page, *known->second)) continue;
      auto version = std::make_shared<Page>();
      std::memcpy(version->bytes.data(), at(page), kPageBytes);
      observed_[page] = version;
      versions_[page].push_back(std::move(version));
      dropped_.erase(page);
    }
  }

  // A sync that failed: the cache takes these pages for clean, whatever the disk has. No
  // later sync writes them, until they change again.
  void drop(uint64_t offset_bytes, uint64_t length_bytes) {
    observe();
    for (const auto& [page, versions] : versions_) {
      const bool is_covered =
          page * kPageBytes < offset_bytes + length_bytes && (page + 1) * kPageBytes > offset_bytes;
      if (is_covered) dropped_.insert(page);
    }
  }

  void give_dropped_up() {
    for (const uint64_t page : dropped_) {
      const auto known = durable_.find(page);
      const Page& left = known == durable_.end() ? zero_page() : *known->second;
      std::memcpy(at(page), left.bytes.data(), kPageBytes);
    }
  }

  void sync(uint64_t offset_bytes, uint64_t length_bytes) {
    observe();
    durable_size_bytes_ = size_bytes_;
    const uint64_t end_bytes = offset_bytes + length_bytes;
    for (auto page = used_.lower_bound(offset_bytes / kPageBytes);
         page != used_.end() && *page * kPageBytes < end_bytes; ++page) {
      make_durable(*page);
    }
  }

  // Pages of which a power loss may leave more than one content.
  size_t unsynced_page_count() const { return versions_.size(); }

  // Equal for equal sets of contents that may be left; see SimulatedStorage.
  std::string state_key() const {
    std::string key;
    if (page_count() > 0)
      key.assign(reinterpret_cast<const char*>(at(0)) + kSectorBytes, kWordBytes);
    for (const auto& [page, content] : observed_) key += words_of(page, *content);
    key += '|';
    for (const auto& [page, content] : durable_) key += words_of(page, *content);
    for (const auto& [page, versions] : versions_) {
      std::set<std::string> distinct;
      for (const Version& version : versions) distinct.insert(words_of(page, *version));
      for (const std::string& version : distinct) key += '/' + version;
    }
    return key;
  }

  // What is there after a power loss, synced and in the cache. `keeps_newest(n)` is
  // asked about the n-th unsynced page under Loss::kSubset.
  SimulatedPages after_power_loss(Loss loss, const std::function<bool(size_t)>& keeps_newest,
                                  Random& random) const {
    Contents contents = durable_;
    size_t index = 0;
    for (const auto& [page, versions] : versions_) {
      const size_t own_index = index++;
      if (loss == Loss::kAll) continue;
      if (loss == Loss::kTorn) {
        contents[page] = torn(page, versions, random);
      } else if (keeps_newest(own_index)) {
        contents[page] = versions.back();
      }
    }
    const bool keeps_size = loss != Loss::kAll && keeps_newest(0);
    SimulatedPages after;
    after.used_ = used_;
    after.resize_mapping(keeps_size ? size_bytes_ : durable_size_bytes_);
    after.durable_size_bytes_ = after.size_bytes_;
    std::erase_if(after.used_, [&](uint64_t page) { return page >= after.page_count(); });
    for (const auto& [page, content] : contents) {
      if (page >= after.page_count()) continue;
      std::memcpy(after.at(page), content->bytes.data(), kPageBytes);
      after.durable_[page] = after.observed_[page] = content;
    }
    return after;
  }

 private:
  using Version = std::shared_ptr<const Page>;
  using Contents = std::map<uint64_t, Version>;  // by page; none: zeroes

  // The words that are not zero; nothing for the first page.
  static std::string words_of(uint64_t page, const Page& content) {
    std::string text;
    for (uint64_t at_bytes = 0; page > 0 && at_bytes < kPageBytes; at_bytes += kWordBytes) {
      uint64_t word = 0;
      std::memcpy(&word, &content.bytes[at_bytes], kWordBytes);
      if (word == 0) continue;
      for (const uint64_t part : {page, at_bytes, word}) {
        text.append(reinterpret_cast<const char*>(&part), sizeof part);
      }
    }
    return text;
  }
  static const Page& zero_page() {
    static const Page zero;
    return zero;
  }
  // Zeroes: a crash is a copy, and most of a copy is what the last one left zeroed.
  class Mapping {
   public:
    Mapping() = default;
    explicit Mapping(uint64_t length_bytes) : length_bytes_(length_bytes) {
      const std::lock_guard lock(mutex());
      std::vector<std::byte*>& free = free_list()[length_bytes];
      if (free.empty()) {
        bytes_ = static_cast<std::byte*>(std::calloc(1, std::max<uint64_t>(length_bytes, 1)));
      } else {
        bytes_ = free.back();
        free.pop_back();
      }
    }
    Mapping(Mapping&& other) noexcept
        : bytes_(std::exchange(other.bytes_, nullptr)), length_bytes_(other.length_bytes_) {}
    Mapping& operator=(Mapping&& other) noexcept {
      std::swap(bytes_, other.bytes_);
      std::swap(length_bytes_, other.length_bytes_);
      return *this;
    }
    ~Mapping() { std::free(bytes_); }

    std::byte* data() const { return bytes_; }
    // To be taken again by the next of this length.
    void recycle(const std::set<uint64_t>& used_pages) {
      if (bytes_ == nullptr) return;
      for (const uint64_t page : used_pages) {
        if (page * kPageBytes < length_bytes_)
          std::memset(bytes_ + page * kPageBytes, 0, kPageBytes);
      }
      const std::lock_guard lock(mutex());
      std::vector<std::byte*>& free = free_list()[length_bytes_];
      if (free.size() >= kMaxFree) return;
      free.push_back(std::exchange(bytes_, nullptr));
    }

   private:
    static constexpr size_t kMaxFree = 64;
    static std::mutex& mutex() {
      static std::mutex mutex;
      return mutex;
    }
    // Never destroyed: what is free at the end is not lost, it is still there to be taken.
    static std::map<uint64_t, std::vector<std::byte*>>& free_list() {
      static auto* const lists = new std::map<uint64_t, std::vector<std::byte*>>;
      return *lists;
    }
    std::byte* bytes_ = nullptr;
    uint64_t length_bytes_ = 0;
  };

  void resize_mapping(uint64_t size_bytes) {
    size_bytes_ = size_bytes;
    mapping_.recycle(used_);
    mapping_ = Mapping(page_count() * kPageBytes);
  }
  uint64_t page_count() const { return (size_bytes_ + kPageBytes - 1) / kPageBytes; }
  std::byte* at(uint64_t page) const { return mapping_.data() + page * kPageBytes; }
  bool holds(uint64_t page, const Page& content) const {
    return std::memcmp(at(page), content.bytes.data(), kPageBytes) == 0;
  }
  bool is_zero(uint64_t page) const { return holds(page, zero_page()); }

  void make_durable(uint64_t page) {
    if (dropped_.count(page) != 0) return;
    const auto known = observed_.find(page);
    if (known != observed_.end()) durable_[page] = known->second;
    versions_.erase(page);
    const uint64_t first = page * kPageBytes / kSectorBytes;
    whole_sectors_.erase(whole_sectors_.lower_bound(first),
                         whole_sectors_.lower_bound(first + kPageBytes / kSectorBytes));
  }

  Version torn(uint64_t page, const std::vector<Version>& versions, Random& random) const {
    const auto found = durable_.find(page);
    const auto pick = [&]() -> const Page& {
      const size_t choice = random() % (versions.size() + 1);
      if (choice < versions.size()) return *versions[choice];
      return found == durable_.end() ? zero_page() : *found->second;
    };
    auto result = std::make_shared<Page>(pick());
    if (random() % 2 == 0) return result;
    const Page& other = pick();
    for (uint64_t at_bytes = 0; at_bytes < kPageBytes;) {
      const bool is_whole =
          whole_sectors_.count((page * kPageBytes + at_bytes) / kSectorBytes) != 0;
      const uint64_t length = is_whole ? kSectorBytes : kWordBytes;
      if (random() % 2 == 0) std::memcpy(&result->bytes[at_bytes], &other.bytes[at_bytes], length);
      at_bytes += length;
    }
    return result;
  }

  uint64_t size_bytes_ = 0;
  uint64_t durable_size_bytes_ = 0;
  Mapping mapping_;
  Contents observed_;  // the mapping when it was last looked at
  Contents durable_;
  std::map<uint64_t, std::vector<Version>> versions_;  // since the page was durable, oldest first
  std::set<uint64_t> dropped_;                         // unsynced, and not to be synced as they are
  std::set<uint64_t> whole_sectors_;
  std::set<uint64_t> used_;
};

}  // namespace tidemark::simulation
