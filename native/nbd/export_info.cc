#include "nbd/export_info.h"

#include <algorithm>
#include <bit>

namespace tidemark::nbd {

namespace {

constexpr uint32_t kSmallestPreferredBytes = 512;  // the specification's floor

}  // namespace

uint16_t transmission_flags(const ServedExport& served, const Session& session) noexcept {
  const DeviceTraits& traits = served.device().traits();
  uint16_t flags = kFlagHasFlags | kFlagCanMultiConn;
  if (traits.can_flush) flags |= kFlagSendFlush | kFlagSendFua;
  if (traits.rotational) flags |= kFlagRotational;
  if (traits.can_cache) flags |= kFlagSendCache;
  if (session.structured_replies) flags |= kFlagSendDf;
  if (session.has_payload_filter(served.entry().name)) flags |= kFlagBlockStatusPayload;
  if (served.is_read_only()) {
    flags |= kFlagReadOnly;
  } else {
    flags |= kFlagSendTrim | kFlagSendWriteZeroes | kFlagSendFastZero;
  }
  return flags;
}

InfoBlockSize block_size_info(const ServedExport& served) noexcept {
  const DeviceTraits& traits = served.device().traits();
  const uint32_t minimum_bytes = traits.minimum_block_bytes;
  const uint32_t floor_bytes = std::max(minimum_bytes, kSmallestPreferredBytes);
  const uint32_t preferred_bytes =
      std::clamp(std::bit_floor(traits.preferred_block_bytes), floor_bytes, kMaximumPayloadBytes);
  return {static_cast<uint16_t>(Info::kBlockSize), minimum_bytes, preferred_bytes,
          kMaximumPayloadBytes};
}

}  // namespace tidemark::nbd
