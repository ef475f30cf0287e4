#include "addon/device_object.h"

#include "device/block_hashes.h"
#include "device/file_device.h"
#include "device/memory_device.h"

namespace tidemark {

namespace {

Status outside(const char* what) {
  return {ErrorCode::kInvalidArgument,
          std::string("Cannot ") + what + ": the range lies outside of the disk."};
}

bool is_inside(const BlockDevice& device, uint64_t offset_bytes, uint64_t length_bytes) {
  return offset_bytes <= device.size_bytes() && length_bytes <= device.size_bytes() - offset_bytes;
}

IoOp op_argument(const Napi::CallbackInfo& info, size_t index) {
  const std::string name = string_argument(info, index);
  if (name == "read") return IoOp::kRead;
  if (name == "write") return IoOp::kWrite;
  if (name == "flush") return IoOp::kFlush;
  if (name == "trim") return IoOp::kTrim;
  if (name == "writeZeroes") return IoOp::kWriteZeroes;
  if (name == "cache") return IoOp::kCache;
  throw to_js_error(info.Env(), Status(ErrorCode::kInvalidArgument,
                                       "Cannot use " + name + ": no such operation."));
}

ImageLockMode lock_argument(const Napi::CallbackInfo& info, size_t index) {
  const std::string name = string_argument(info, index);
  if (name == "exclusive") return ImageLockMode::kExclusive;
  if (name == "shared") return ImageLockMode::kShared;
  if (name == "none") return ImageLockMode::kNone;
  throw to_js_error(info.Env(), Status(ErrorCode::kInvalidArgument,
                                       "Cannot use " + name + ": because it is no image lock."));
}

}  // namespace

DeviceHandleAccess& device_argument(const Napi::CallbackInfo& info, size_t index) {
  if (info[index].IsObject()) {
    bool is_device = false;
    const Napi::Object object = info[index].As<Napi::Object>();
    napi_check_object_type_tag(info.Env(), object, &kDeviceTag, &is_device);
    if (is_device) {
      return *object.Get("__device").As<Napi::External<DeviceHandleAccess>>().Data();
    }
  }
  throw to_js_error(info.Env(), Status(ErrorCode::kInvalidArgument,
                                       "Cannot use this value: it is not a device of Tidemark."));
}

void tag_device(Napi::Object object, DeviceHandleAccess* access) {
  const Napi::Env env = object.Env();
  napi_type_tag_object(env, object, &kDeviceTag);
  object.DefineProperty(Napi::PropertyDescriptor::Value(
      "__device", Napi::External<DeviceHandleAccess>::New(env, access), napi_default));
}

Napi::Promise device_read(const Napi::CallbackInfo& info, Lease<BlockDevice> device) {
  const uint64_t offset_bytes = bytes_argument(info, 0);
  const auto into = buffer_argument(info, 1);
  return run_status_task(
      info.Env(),
      [device, offset_bytes, into] {
        if (!is_inside(*device, offset_bytes, into.size())) return outside("read");
        return read_sync(*device, offset_bytes, into);
      },
      info[1]);
}

Napi::Promise device_write(const Napi::CallbackInfo& info, Lease<BlockDevice> device) {
  const uint64_t offset_bytes = bytes_argument(info, 0);
  const auto from = buffer_argument(info, 1);
  return run_status_task(
      info.Env(),
      [device, offset_bytes, from] {
        if (!is_inside(*device, offset_bytes, from.size())) return outside("write");
        return write_sync(*device, offset_bytes, from);
      },
      info[1]);
}

Napi::Promise device_flush(const Napi::CallbackInfo& info, Lease<BlockDevice> device) {
  return run_status_task(info.Env(), [device] { return flush_sync(*device); });
}

Napi::Promise device_trim(const Napi::CallbackInfo& info, Lease<BlockDevice> device) {
  const uint64_t offset_bytes = bytes_argument(info, 0);
  const uint64_t length_bytes = bytes_argument(info, 1);
  return run_status_task(info.Env(), [device, offset_bytes, length_bytes] {
    if (!is_inside(*device, offset_bytes, length_bytes)) return outside("trim");
    return trim_sync(*device, offset_bytes, length_bytes);
  });
}

Napi::Promise device_write_zeroes(const Napi::CallbackInfo& info, Lease<BlockDevice> device) {
  const uint64_t offset_bytes = bytes_argument(info, 0);
  const uint64_t length_bytes = bytes_argument(info, 1);
  return run_status_task(info.Env(), [device, offset_bytes, length_bytes] {
    if (!is_inside(*device, offset_bytes, length_bytes)) return outside("write zeroes");
    return write_zeroes_sync(*device, offset_bytes, length_bytes);
  });
}

Napi::Promise device_resize(const Napi::CallbackInfo& info, Lease<BlockDevice> device) {
  const uint64_t size_bytes = bytes_argument(info, 0);
  return run_status_task(info.Env(), [device, size_bytes] { return device->resize(size_bytes); });
}

Napi::Promise device_lock_image(const Napi::CallbackInfo& info, Lease<BlockDevice> device) {
  const ImageLockMode mode = lock_argument(info, 0);
  return run_status_task(info.Env(), [device, mode] { return device->lock_image(mode); });
}

Napi::Promise device_hash_blocks(const Napi::CallbackInfo& info, Lease<BlockDevice> device) {
  std::vector<HashExtent> extents;
  for (const ByteExtent& extent : extents_argument(info, 0)) {
    extents.push_back({extent.offset_bytes, extent.length_bytes});
  }
  const uint32_t block_bytes = uint32_argument(info, 1);
  using Hashes = std::vector<std::byte>;
  return AsyncTask<Hashes>::run(
      info.Env(),
      [device, extents = std::move(extents), block_bytes]() -> Result<Hashes> {
        if (block_bytes == 0) return outside("hash blocks of no length");
        return hash_blocks(*device, extents, block_bytes);
      },
      [](Napi::Env env, Hashes& hashes) -> Napi::Value {
        return Napi::Buffer<std::byte>::Copy(env, hashes.data(), hashes.size());
      });
}

Napi::Promise device_extents(const Napi::CallbackInfo& info, Lease<BlockDevice> device) {
  const std::string context = string_argument(info, 0);
  const uint64_t offset_bytes = bytes_argument(info, 1);
  const uint64_t length_bytes = bytes_argument(info, 2);
  const uint32_t max_extents = uint32_argument(info, 3);
  using Extents = std::vector<DeviceExtent>;
  return AsyncTask<Extents>::run(
      info.Env(),
      [=]() -> Result<Extents> {
        if (!is_inside(*device, offset_bytes, length_bytes)) return outside("query extents");
        Extents extents;
        Status status =
            device->query_extents(context, offset_bytes, length_bytes, max_extents, extents);
        if (!status.is_ok()) return status;
        return extents;
      },
      [](Napi::Env env, Extents& extents) -> Napi::Value {
        auto array = Napi::Float64Array::New(env, extents.size() * 2);
        for (size_t i = 0; i < extents.size(); ++i) {
          array[2 * i] = static_cast<double>(extents[i].length_bytes);
          array[2 * i + 1] = extents[i].flags;
        }
        return array;
      });
}

Napi::Function DeviceObject::define(Napi::Env env) {
  auto properties = device_properties();
  properties.push_back(InstanceMethod("close", &DeviceObject::close));
  return DefineClass(env, "Device", properties);
}

Napi::Value DeviceObject::close(const Napi::CallbackInfo& info) {
  return handle_.close(info.Env(), [leases = device_leases_](std::shared_ptr<BlockDevice> device) {
    leases->wait_for_zero();
    device.reset();
    return Status::ok();
  });
}

Napi::Function FaultDeviceObject::define(Napi::Env env) {
  auto properties = device_properties();
  properties.push_back(InstanceMethod("close", &FaultDeviceObject::close));
  properties.push_back(InstanceMethod("failNext", &FaultDeviceObject::fail_next));
  properties.push_back(InstanceMethod("hold", &FaultDeviceObject::hold));
  properties.push_back(InstanceMethod("heldCount", &FaultDeviceObject::held_count));
  properties.push_back(InstanceMethod("releaseHeld", &FaultDeviceObject::release_held));
  return DefineClass(env, "FaultDevice", properties);
}

std::shared_ptr<FaultDevice> FaultDeviceObject::faults(Napi::Env env) const {
  auto device = faults_.lock();
  if (device != nullptr) return device;
  throw to_js_error(env, Status(ErrorCode::kClosed, "Cannot use this object: it is closed."));
}

Napi::Value FaultDeviceObject::close(const Napi::CallbackInfo& info) {
  if (handle_.is_open()) handle_.get(info.Env()).release_held();
  return handle_.close(info.Env(), [leases = device_leases_](std::shared_ptr<FaultDevice> device) {
    leases->wait_for_zero();
    device.reset();
    return Status::ok();
  });
}

Napi::Value FaultDeviceObject::fail_next(const Napi::CallbackInfo& info) {
  faults(info.Env())
      ->fail_next(op_argument(info, 0), static_cast<int>(uint32_argument(info, 1)),
                  bytes_argument(info, 2), bytes_argument(info, 3), bytes_argument(info, 4));
  return info.Env().Undefined();
}

Napi::Value FaultDeviceObject::hold(const Napi::CallbackInfo& info) {
  faults(info.Env())->hold(op_argument(info, 0));
  return info.Env().Undefined();
}

Napi::Value FaultDeviceObject::held_count(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(faults(info.Env())->held_count()));
}

Napi::Value FaultDeviceObject::release_held(const Napi::CallbackInfo& info) {
  faults(info.Env())->release_held();
  return info.Env().Undefined();
}

Napi::Value open_file_device_js(const Napi::CallbackInfo& info) {
  FileDeviceParameters parameters;
  parameters.path = string_argument(info, 0);
  parameters.read_only = bool_argument(info, 1);
  parameters.direct = bool_argument(info, 2);
  parameters.lock = lock_argument(info, 3);
  return AsyncTask<std::shared_ptr<BlockDevice>>::run(
      info.Env(), [parameters] { return open_file_device(parameters); },
      [](Napi::Env env, std::shared_ptr<BlockDevice>& device) -> Napi::Value {
        return wrap_new(env, AddonData::of(env).device, device);
      });
}

Napi::Value memory_device_js(const Napi::CallbackInfo& info) {
  return wrap_new(info.Env(), AddonData::of(info.Env()).device,
                  make_memory_device(bytes_argument(info, 0)));
}

Napi::Value fault_device_js(const Napi::CallbackInfo& info) {
  return wrap_new(info.Env(), AddonData::of(info.Env()).fault_device,
                  make_fault_device(device_argument(info, 0).take_device(info.Env())));
}

}  // namespace tidemark
