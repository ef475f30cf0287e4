// BlockStatusQuery: answers BLOCK_STATUS for all contexts of a session, one
// chunk a context.
#pragma once

#include <cstdint>
#include <vector>

#include "common/nbd_wire.h"
#include "nbd/output_queue.h"
#include "nbd/session.h"

namespace tidemark::nbd {

class BlockStatusQuery {
 public:
  // kNone, or the error that ends the reply (chunks of earlier contexts may be
  // queued already: they stay valid).
  WireError answer(BlockDevice& device, const std::vector<MetaContext>& contexts,
                   const RequestHeader& request, OutputQueue& output);

 private:
  static constexpr size_t kMaximumExtents = 16384;  // a context and reply: 128 KiB
  static constexpr size_t kExtentsForOne = 64;      // neighbours that may be one extent

  bool collect(BlockDevice& device, const MetaContext& context, const RequestHeader& request);
  void normalize(const RequestHeader& request);
  bool queue_chunk(const RequestHeader& request, uint32_t context_id, bool is_last,
                   OutputQueue& output) const;

  std::vector<DeviceExtent> extents_;  // kept for its memory
};

}  // namespace tidemark::nbd
