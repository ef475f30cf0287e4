#include "tracking/fingerprint.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <semaphore>
#include <string>
#include <string_view>
#include <vector>

#include "common/sha1.h"
#include "device/sync_io.h"

namespace tidemark {

namespace {

constexpr uint64_t kSampleBytes = 4096;
constexpr uint32_t kRandomSamples = 40;
// Where a partition table and the first file system of a disk keep what every mount writes.
constexpr uint64_t kKnownPlaces[] = {0, 1 << 20, (1 << 20) + 65536, 2 << 20};

constexpr auto cause(SuspicionCause value) noexcept { return static_cast<SuspicionCauses>(value); }

// splitmix64: one well-mixed number for each index of a seed.
uint64_t mixed(uint64_t seed, uint64_t index) noexcept {
  uint64_t value = seed + (index + 1) * 0x9e3779b97f4a7c15;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

// Whole blocks; a tail that is shorter than one is not sampled.
std::vector<uint64_t> sample_offsets(uint64_t size_bytes, uint64_t seed, uint32_t random_count) {
  std::vector<uint64_t> offsets;
  const uint64_t block_count = size_bytes / kSampleBytes;
  if (block_count == 0) return offsets;
  for (const uint64_t place : kKnownPlaces) {
    if (place / kSampleBytes < block_count) offsets.push_back(place);
  }
  offsets.push_back((block_count - 1) * kSampleBytes);
  for (uint32_t i = 0; i < random_count; ++i) {
    offsets.push_back(mixed(seed, i) % block_count * kSampleBytes);
  }
  std::sort(offsets.begin(), offsets.end());
  offsets.erase(std::unique(offsets.begin(), offsets.end()), offsets.end());
  return offsets;
}

// All samples at once: one after the other, a slow disk would hold up its closing.
class SampleReads {
 public:
  explicit SampleReads(const std::vector<uint64_t>& offsets)
      : requests_(offsets.size()), content_(offsets.size() * kSampleBytes) {
    for (size_t i = 0; i < offsets.size(); ++i) {
      requests_[i].op = IoOp::kRead;
      requests_[i].offset_bytes = offsets[i];
      requests_[i].length_bytes = kSampleBytes;
      requests_[i].data = content_.data() + i * kSampleBytes;
    }
  }

  Status run(BlockDevice& backing) {
    for (IoRequest& request : requests_) {
      request.push(on_read, this);
      backing.submit(request);
    }
    for (size_t i = 0; i < requests_.size(); ++i) ended_.acquire();
    const int error = error_.load();
    return error == 0 ? Status::ok() : Status::from_errno("cannot read", error);
  }

  std::string_view content() const noexcept {
    return {reinterpret_cast<const char*>(content_.data()), content_.size()};
  }

 private:
  static void on_read(IoRequest& /*request*/, void* context, uint64_t /*word*/,
                      int error) noexcept {
    auto* const self = static_cast<SampleReads*>(context);
    if (error != 0) self->error_.store(error);
    self->ended_.release();
  }

  std::vector<IoRequest> requests_;
  std::vector<std::byte> content_;
  std::counting_semaphore<> ended_{0};
  std::atomic<int> error_{0};
};

Result<BackingFingerprint::Digest> digest_samples(BlockDevice& backing, uint64_t size_bytes,
                                                  uint64_t seed, uint32_t random_count) {
  SampleReads reads(sample_offsets(size_bytes, seed, random_count));
  if (Status status = reads.run(backing); !status.is_ok()) return status;
  std::string digests;
  for (std::string_view left = reads.content(); !left.empty(); left.remove_prefix(kSampleBytes)) {
    const auto digest = sha1(left.substr(0, kSampleBytes));
    digests.append(reinterpret_cast<const char*>(digest.data()), digest.size());
  }
  return sha1(digests);
}

BackingFingerprint::Digest identity_digest(const BackingFacts& facts) {
  return facts.identity.empty() ? BackingFingerprint::Digest{} : sha1(facts.identity);
}

SuspicionCauses compare_samples(BlockDevice& backing, const BackingFingerprint& known) {
  if (backing.size_bytes() < known.size_bytes) return cause(SuspicionCause::kContentDiffers);
  const auto digest =
      digest_samples(backing, known.size_bytes, known.sample_seed, known.sample_count);
  if (!digest.is_ok()) return cause(SuspicionCause::kNoFingerprint);
  return digest.value() == known.samples ? 0 : cause(SuspicionCause::kContentDiffers);
}

}  // namespace

Result<BackingFingerprint> identity_fingerprint(const BlockDevice& backing) {
  const Result<BackingFacts> facts = backing.facts();
  if (!facts.is_ok()) return facts.status();
  BackingFingerprint fingerprint;
  fingerprint.state = BackingFingerprint::State::kInUse;
  fingerprint.identity = identity_digest(facts.value());
  fingerprint.size_bytes = backing.size_bytes();
  return fingerprint;
}

Result<BackingFingerprint> take_fingerprint(BlockDevice& backing, uint64_t seed) {
  Result<BackingFingerprint> taken = identity_fingerprint(backing);
  if (!taken.is_ok()) return taken;
  BackingFingerprint fingerprint = taken.value();
  const auto samples = digest_samples(backing, fingerprint.size_bytes, seed, kRandomSamples);
  if (!samples.is_ok()) return samples.status();
  // After the samples: a write while they were read would show.
  const Result<BackingFacts> facts = backing.facts();
  if (!facts.is_ok()) return facts.status();
  fingerprint.state = BackingFingerprint::State::kClosed;
  fingerprint.modified_ns = facts.value().modified_ns;
  fingerprint.sample_seed = seed;
  fingerprint.sample_count = kRandomSamples;
  fingerprint.samples = samples.value();
  return fingerprint;
}

SuspicionCauses compare_fingerprint(BlockDevice& backing, const BackingFingerprint& known) {
  if (known.state == BackingFingerprint::State::kNone) return 0;
  const Result<BackingFacts> facts = backing.facts();
  if (!facts.is_ok()) return cause(SuspicionCause::kNoFingerprint);
  SuspicionCauses causes = 0;
  if (known.identity != identity_digest(facts.value())) causes |= cause(SuspicionCause::kReplaced);
  if (known.state == BackingFingerprint::State::kInUse) return causes;
  if (known.size_bytes != backing.size_bytes()) causes |= cause(SuspicionCause::kSizeChanged);
  if (known.modified_ns != facts.value().modified_ns) causes |= cause(SuspicionCause::kModified);
  return causes | compare_samples(backing, known);
}

SuspicionCauses compare_moved_fingerprint(BlockDevice& backing, const BackingFingerprint& known) {
  if (known.state != BackingFingerprint::State::kClosed) {
    return cause(SuspicionCause::kNoFingerprint);
  }
  const bool is_same_size = known.size_bytes == backing.size_bytes();
  return (is_same_size ? 0 : cause(SuspicionCause::kSizeChanged)) | compare_samples(backing, known);
}

Result<SuspicionCauses> settle_fingerprint(BlockDevice& backing, DirtyBitmap& bitmap) {
  const BackingFingerprint& known = bitmap.fingerprint();
  SuspicionCauses causes = compare_fingerprint(backing, known);
  const bool was_kept = known.state == BackingFingerprint::State::kClosed;
  if (bitmap.opened_clean() && !was_kept) causes |= cause(SuspicionCause::kNoFingerprint);
  const Result<BackingFingerprint> now = identity_fingerprint(backing);
  if (!now.is_ok()) return now.status();
  Status status = bitmap.settle_fingerprint(causes, now.value());
  if (!status.is_ok()) return status;
  return causes;
}

Status keep_fingerprint(BlockDevice& backing, DirtyBitmap& bitmap) {
  if (backing.traits().can_flush && !backing.traits().read_only) {
    if (Status status = flush_sync(backing); !status.is_ok()) return status;
  }
  uint64_t seed = 0;
  const Uuid random = Uuid::random();
  std::memcpy(&seed, random.bytes.data(), sizeof seed);
  const Result<BackingFingerprint> closed = take_fingerprint(backing, seed);
  return closed.is_ok() ? bitmap.keep_fingerprint(closed.value()) : closed.status();
}

}  // namespace tidemark
