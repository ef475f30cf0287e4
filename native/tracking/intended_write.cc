#include "tracking/intended_write.h"

#include "tracking/tracked_device_impl.h"

namespace tidemark {

void IntendedWrite::start(IoRequest& request, TrackedDevice::Impl& device, IntentLog& log) {
  auto* const intended = new IntendedWrite(request, device);  // resume() deletes it
  log.wait_for_mark(*intended);
}

void IntendedWrite::resume() noexcept {
  IoRequest& request = request_;
  TrackedDevice::Impl& device = device_;
  delete this;
  device.submit(request);
}

}  // namespace tidemark
