// BlockStatusQuery: answers BLOCK_STATUS for the contexts asked for, one chunk a
// context.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "nbd/client_request.h"
#include "nbd/output_queue.h"
#include "nbd/reply_format.h"
#include "nbd/session.h"

namespace tidemark::nbd {

class BlockStatusQuery {
 public:
  // `extents` is scratch memory.
  BlockStatusQuery(BlockDevice& device, const ReplyFormat& format,
                   std::vector<DeviceExtent>& extents, OutputQueue& output)
      : device_(device), format_(format), extents_(extents), output_(output) {}

  // kNone, or the error that ends the reply (chunks of earlier contexts may be
  // queued already: they stay valid).
  WireError answer(std::span<const MetaContext* const> contexts, const ClientRequest& request);

 private:
  static constexpr size_t kMaximumExtents = 16384;  // a context and reply: 256 KiB at most
  static constexpr size_t kExtentsForOne = 64;      // neighbours that may be one extent

  bool collect(const MetaContext& context, const ClientRequest& request);
  void normalize(const ClientRequest& request);
  bool queue_chunk(const ClientRequest& request, uint32_t context_id, bool is_last);
  void put_extents(std::byte* at, uint32_t context_id) const noexcept;
  size_t payload_bytes() const noexcept;

  BlockDevice& device_;
  const ReplyFormat& format_;
  std::vector<DeviceExtent>& extents_;
  OutputQueue& output_;
};

// The contexts that BLOCK_STATUS's payload chooses, as positions in the session's
// list, and what it asks about. False when the payload is not valid: of a wrong
// length, or with an id that is unknown or there twice.
bool take_status_filter(std::span<const std::byte> payload, const std::vector<MetaContext>& all,
                        uint64_t& length_bytes, std::vector<const MetaContext*>& chosen);

}  // namespace tidemark::nbd
