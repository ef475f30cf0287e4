#include "device/exchangeable_device.h"

#include <condition_variable>
#include <utility>

#include "common/mutex.h"

namespace tidemark {

namespace {

struct Place {
  std::shared_ptr<BlockDevice> device;
  uint64_t in_flight_count = 0;
};

class ExchangeableDeviceImpl final : public ExchangeableDevice {
 public:
  explicit ExchangeableDeviceImpl(std::shared_ptr<BlockDevice> first)
      : size_bytes_(first->size_bytes()),
        traits_(first->traits()),
        place_(std::make_shared<Place>(Place{std::move(first)})) {}

  uint64_t size_bytes() const noexcept override { return size_bytes_; }
  const DeviceTraits& traits() const noexcept override { return traits_; }
  void submit(IoRequest& request) noexcept override;
  Status query_extents(std::string_view context, uint64_t offset_bytes, uint64_t length_bytes,
                       size_t max_extents, std::vector<DeviceExtent>& extents) override {
    return device()->query_extents(context, offset_bytes, length_bytes, max_extents, extents);
  }
  Status exchange(std::shared_ptr<BlockDevice> next) override;

 private:
  static void on_done(IoRequest& request, void* context, uint64_t word, int error) noexcept;
  std::shared_ptr<BlockDevice> device() const {
    const MutexLock lock(mutex_);
    return place_->device;
  }

  const uint64_t size_bytes_;
  const DeviceTraits traits_;

  mutable Mutex mutex_;
  std::condition_variable place_left_;
  // A place lives until its last request has ended, which exchange() waits for.
  std::shared_ptr<Place> place_ GUARDED_BY(mutex_);
};

void ExchangeableDeviceImpl::submit(IoRequest& request) noexcept {
  Place* place = nullptr;
  {
    const MutexLock lock(mutex_);
    place = place_.get();
    ++place->in_flight_count;
  }
  request.push(on_done, this, reinterpret_cast<uint64_t>(place));
  place->device->submit(request);
}

void ExchangeableDeviceImpl::on_done(IoRequest& request, void* context, uint64_t word,
                                     int error) noexcept {
  auto* const self = static_cast<ExchangeableDeviceImpl*>(context);
  {
    const MutexLock lock(self->mutex_);
    auto* const place = reinterpret_cast<Place*>(word);
    if (--place->in_flight_count == 0) self->place_left_.notify_all();
  }
  request.complete(error);
}

Status ExchangeableDeviceImpl::exchange(std::shared_ptr<BlockDevice> next) {
  if (next->size_bytes() != size_bytes_) {
    return {ErrorCode::kInvalidArgument,
            "Cannot exchange the device: because the next one has another size."};
  }
  auto former = std::make_shared<Place>(Place{std::move(next)});
  MutexLock lock(mutex_);
  former.swap(place_);
  lock.wait(place_left_, [&] { return former->in_flight_count == 0; });
  return Status::ok();
}

}  // namespace

std::shared_ptr<ExchangeableDevice> make_exchangeable_device(std::shared_ptr<BlockDevice> first) {
  return std::make_shared<ExchangeableDeviceImpl>(std::move(first));
}

}  // namespace tidemark
