// StatusQuery: a BLOCK_STATUS whose extents are fetched by the extent worker.
#pragma once

#include <span>
#include <vector>

#include "device/block_device.h"
#include "nbd/client_request.h"
#include "nbd/session.h"

namespace tidemark::nbd {

// Neighbours of equal flags are one, and nothing reaches past the request. False:
// the device could not tell. `extents` is replaced.
bool collect_extents(BlockDevice& device, const MetaContext& context, const ClientRequest& request,
                     std::vector<DeviceExtent>& extents);

struct StatusQuery {
  BlockDevice& device;
  ClientRequest request;
  std::vector<const MetaContext*> contexts;          // the session's
  std::vector<std::vector<DeviceExtent>> extents{};  // one a context; fewer: the next one failed

  void run();
};

}  // namespace tidemark::nbd
