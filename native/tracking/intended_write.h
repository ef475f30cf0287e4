// IntendedWrite: a write-class request that waits, outside of the gate, until the
// intent log has its regions' marks durable; then it is submitted anew.
//
// Outside, so that a checkpoint never waits for that sync. Allocated only when there
// is something to wait for: the first write to a region since it was quiet.
#pragma once

#include "bitmap/intent_log.h"
#include "device/io_request.h"
#include "tracking/tracked_device.h"

namespace tidemark {

class IntendedWrite final : public IntentWaiter {
 public:
  // Takes the request over; device.submit() follows on the log's thread.
  static void start(IoRequest& request, TrackedDevice::Impl& device, IntentLog& log);

 private:
  IntendedWrite(IoRequest& request, TrackedDevice::Impl& device)
      : IntentWaiter(request.offset_bytes, request.length_bytes),
        request_(request),
        device_(device) {}

  void resume() noexcept override;

  IoRequest& request_;
  TrackedDevice::Impl& device_;
};

}  // namespace tidemark
