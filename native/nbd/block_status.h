// BlockStatusWriter: queues the reply to a BLOCK_STATUS, one chunk a context.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "nbd/client_request.h"
#include "nbd/output_queue.h"
#include "nbd/reply_format.h"
#include "nbd/session.h"

namespace tidemark::nbd {

class BlockStatusWriter {
 public:
  BlockStatusWriter(const ReplyFormat& format, OutputQueue& output)
      : format_(format), output_(output) {}

  // False without memory. Chunks of earlier contexts stay valid when an error
  // ends the reply instead of the last one.
  bool write(const ClientRequest& request, uint32_t context_id,
             const std::vector<DeviceExtent>& extents, bool is_last);

 private:
  size_t payload_bytes(size_t extent_count) const noexcept;
  void put_extents(std::byte* at, uint32_t context_id,
                   const std::vector<DeviceExtent>& extents) const noexcept;

  const ReplyFormat& format_;
  OutputQueue& output_;
};

// The contexts that BLOCK_STATUS's payload chooses, as positions in the session's
// list, and what it asks about. False when the payload is not valid: of a wrong
// length, or with an id that is unknown or there twice.
bool take_status_filter(std::span<const std::byte> payload, const std::vector<MetaContext>& all,
                        uint64_t& length_bytes, std::vector<const MetaContext*>& chosen);

}  // namespace tidemark::nbd
