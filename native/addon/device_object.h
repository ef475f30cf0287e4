// The JavaScript side of BlockDevice: the methods that every device has, as a
// base for the wrapper classes, and the way back from a JavaScript value.
#pragma once

#include <napi.h>

#include <memory>
#include <vector>

#include "addon/addon_data.h"
#include "addon/arguments.h"
#include "addon/handle.h"
#include "device/block_device.h"
#include "device/fault_device.h"
#include "device/sync_io.h"
#include "tracking/tracked_device.h"

namespace tidemark {

inline constexpr napi_type_tag kDeviceTag = {0x7469646d61726b01, 0x6465766963650001};

// Type-erased access to the handle behind any device wrapper.
class DeviceHandleAccess {
 public:
  virtual ~DeviceHandleAccess() = default;
  virtual std::shared_ptr<BlockDevice> share_device(Napi::Env env) const = 0;
  virtual std::shared_ptr<BlockDevice> take_device(Napi::Env env) = 0;
};

// Refuses values that are not device wrappers.
DeviceHandleAccess& device_argument(const Napi::CallbackInfo& info, size_t index);
void tag_device(Napi::Object object, DeviceHandleAccess* access);

Napi::Promise device_read(const Napi::CallbackInfo& info, Lease<BlockDevice> device);
Napi::Promise device_write(const Napi::CallbackInfo& info, Lease<BlockDevice> device);
Napi::Promise device_flush(const Napi::CallbackInfo& info, Lease<BlockDevice> device);
Napi::Promise device_trim(const Napi::CallbackInfo& info, Lease<BlockDevice> device);
Napi::Promise device_write_zeroes(const Napi::CallbackInfo& info, Lease<BlockDevice> device);
Napi::Promise device_resize(const Napi::CallbackInfo& info, Lease<BlockDevice> device);
Napi::Promise device_lock_image(const Napi::CallbackInfo& info, Lease<BlockDevice> device);
Napi::Promise device_hash_blocks(const Napi::CallbackInfo& info, Lease<BlockDevice> device);
Napi::Promise device_extents(const Napi::CallbackInfo& info, Lease<BlockDevice> device);

// The state of the NBD upstream that a device is, or that it tracks; null for others.
Napi::Value upstream_of(Napi::Env env, const BlockDevice& device);
Napi::Value upstream_of(Napi::Env env, TrackedDevice& device);

template <typename Self, typename Device>
class DeviceObjectBase : public Napi::ObjectWrap<Self>, public DeviceHandleAccess {
 public:
  explicit DeviceObjectBase(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Self>(info) {
    handle_.set(unwrap_external<Device>(info));
    tag_device(info.This().As<Napi::Object>(), this);
  }

  std::shared_ptr<BlockDevice> share_device(Napi::Env env) const override {
    return handle_.share(env);
  }
  std::shared_ptr<BlockDevice> take_device(Napi::Env env) override { return handle_.take(env); }

 protected:
  static std::vector<Napi::ClassPropertyDescriptor<Self>> device_properties() {
    return {
        Self::InstanceAccessor("sizeBytes", &Self::size_bytes, nullptr),
        Self::InstanceAccessor("engine", &Self::engine, nullptr),
        Self::InstanceMethod("read", &Self::read),
        Self::InstanceMethod("write", &Self::write),
        Self::InstanceMethod("flush", &Self::flush),
        Self::InstanceMethod("trim", &Self::trim),
        Self::InstanceMethod("writeZeroes", &Self::write_zeroes),
        Self::InstanceMethod("resize", &Self::resize),
        Self::InstanceMethod("lockImage", &Self::lock_image),
        Self::InstanceMethod("extents", &Self::extents),
        Self::InstanceMethod("hashBlocks", &Self::hash_blocks),
        Self::InstanceMethod("giveUp", &Self::give_up),
        Self::InstanceMethod("upstream", &Self::upstream),
    };
  }

  Lease<BlockDevice> device_lease(Napi::Env env) const {
    return Lease<BlockDevice>(handle_.share(env), device_leases_);
  }

  Napi::Value size_bytes(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), static_cast<double>(handle_.get(info.Env()).size_bytes()));
  }
  Napi::Value engine(const Napi::CallbackInfo& info) {
    return Napi::String::New(info.Env(), handle_.get(info.Env()).traits().engine);
  }
  Napi::Value read(const Napi::CallbackInfo& info) {
    return device_read(info, device_lease(info.Env()));
  }
  Napi::Value write(const Napi::CallbackInfo& info) {
    return device_write(info, device_lease(info.Env()));
  }
  Napi::Value flush(const Napi::CallbackInfo& info) {
    return device_flush(info, device_lease(info.Env()));
  }
  Napi::Value trim(const Napi::CallbackInfo& info) {
    return device_trim(info, device_lease(info.Env()));
  }
  Napi::Value write_zeroes(const Napi::CallbackInfo& info) {
    return device_write_zeroes(info, device_lease(info.Env()));
  }
  Napi::Value resize(const Napi::CallbackInfo& info) {
    return device_resize(info, device_lease(info.Env()));
  }
  Napi::Value lock_image(const Napi::CallbackInfo& info) {
    return device_lock_image(info, device_lease(info.Env()));
  }
  Napi::Value extents(const Napi::CallbackInfo& info) {
    return device_extents(info, device_lease(info.Env()));
  }
  Napi::Value hash_blocks(const Napi::CallbackInfo& info) {
    return device_hash_blocks(info, device_lease(info.Env()));
  }
  Napi::Value give_up(const Napi::CallbackInfo& info) {
    handle_.get(info.Env()).give_up();
    return info.Env().Undefined();
  }
  Napi::Value upstream(const Napi::CallbackInfo& info) {
    return upstream_of(info.Env(), handle_.get(info.Env()));
  }

  Handle<Device> handle_;
  // Leases of the device's common methods; close() waits for these as well.
  std::shared_ptr<LeaseCount> device_leases_ = std::make_shared<LeaseCount>();
};

class DeviceObject final : public DeviceObjectBase<DeviceObject, BlockDevice> {
 public:
  static Napi::Function define(Napi::Env env);
  using DeviceObjectBase::DeviceObjectBase;

 private:
  friend class DeviceObjectBase<DeviceObject, BlockDevice>;
  Napi::Value close(const Napi::CallbackInfo& info);
};

class FaultDeviceObject final : public DeviceObjectBase<FaultDeviceObject, FaultDevice> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit FaultDeviceObject(const Napi::CallbackInfo& info)
      : DeviceObjectBase(info), faults_(handle_.share(info.Env())) {}

 private:
  friend class DeviceObjectBase<FaultDeviceObject, FaultDevice>;
  std::shared_ptr<FaultDevice> faults(Napi::Env env) const;
  Napi::Value close(const Napi::CallbackInfo& info);
  Napi::Value fail_next(const Napi::CallbackInfo& info);
  Napi::Value hold(const Napi::CallbackInfo& info);
  Napi::Value held_count(const Napi::CallbackInfo& info);
  Napi::Value release_held(const Napi::CallbackInfo& info);

  // The faults can be told what to do after another object has taken the device
  // over; it lives no longer for that.
  std::weak_ptr<FaultDevice> faults_;
};

// Module functions.
Napi::Value open_file_device_js(const Napi::CallbackInfo& info);
Napi::Value open_nbd_device_js(const Napi::CallbackInfo& info);
Napi::Value memory_device_js(const Napi::CallbackInfo& info);
Napi::Value fault_device_js(const Napi::CallbackInfo& info);

}  // namespace tidemark
