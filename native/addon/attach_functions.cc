#include "addon/attach_functions.h"

#include "addon/addon_data.h"
#include "addon/arguments.h"
#include "attach/fuse_mount.h"
#include "attach/kernel_nbd.h"
#include "attach/loop_device.h"

namespace tidemark {

namespace {

attach::NbdAttachment attachment_argument(const Napi::CallbackInfo& info, size_t index) {
  if (info.Length() <= index || !info[index].IsObject()) {
    throw Napi::TypeError::New(info.Env(), "Cannot attach: the attachment is no object.");
  }
  const Napi::Object options = info[index].As<Napi::Object>();
  const auto text = [&](const char* name) { return options.Get(name).ToString().Utf8Value(); };
  const auto number = [&](const char* name) { return options.Get(name).ToNumber().Uint32Value(); };
  attach::NbdAttachment attachment;
  attachment.unix_path = text("unixPath");
  attachment.export_name = text("exportName");
  attachment.backend_id = text("backendId");
  attachment.connection_count = number("connectionCount");
  attachment.block_bytes = number("blockBytes");
  attachment.request_limit = std::chrono::seconds(number("requestLimitSeconds"));
  attachment.reconnect_limit = std::chrono::seconds(number("reconnectLimitSeconds"));
  return attachment;
}

Napi::Value probe_kernel_nbd_js(const Napi::CallbackInfo& info) {
  return run_status_task(info.Env(), attach::probe_kernel_nbd);
}

Napi::Value connect_kernel_nbd_js(const Napi::CallbackInfo& info) {
  const auto attachment = attachment_argument(info, 0);
  const int index = info[1].ToNumber().Int32Value();
  return AsyncTask<uint32_t>::run(
      info.Env(), [attachment, index] { return attach::connect_kernel_nbd(attachment, index); },
      [](Napi::Env env, uint32_t& connected) -> Napi::Value {
        return Napi::Number::New(env, connected);
      });
}

Napi::Value reconnect_kernel_nbd_js(const Napi::CallbackInfo& info) {
  const auto attachment = attachment_argument(info, 0);
  const uint32_t index = uint32_argument(info, 1);
  return run_status_task(
      info.Env(), [attachment, index] { return attach::reconnect_kernel_nbd(attachment, index); });
}

Napi::Value resize_kernel_nbd_js(const Napi::CallbackInfo& info) {
  const auto attachment = attachment_argument(info, 0);
  const uint32_t index = uint32_argument(info, 1);
  const uint64_t size_bytes = bytes_argument(info, 2);
  return run_status_task(info.Env(), [attachment, index, size_bytes] {
    return attach::resize_kernel_nbd(attachment, index, size_bytes);
  });
}

Napi::Value disconnect_kernel_nbd_js(const Napi::CallbackInfo& info) {
  return run_status_task(info.Env(), [index = uint32_argument(info, 0)] {
    return attach::disconnect_kernel_nbd(index);
  });
}

Napi::Value drop_kernel_nbd_js(const Napi::CallbackInfo& info) {
  return run_status_task(
      info.Env(), [index = uint32_argument(info, 0)] { return attach::drop_kernel_nbd(index); });
}

Napi::Value keep_links_js(const Napi::CallbackInfo& info) {
  using Keeper = std::shared_ptr<attach::LinkKeeper>;
  const auto attachment = attachment_argument(info, 0);
  const uint32_t index = uint32_argument(info, 1);
  return AsyncTask<Keeper>::run(
      info.Env(),
      [attachment, index]() -> Result<Keeper> {
        auto started = attach::LinkKeeper::start(attachment, index);
        if (!started.is_ok()) return started.status();
        return Keeper(std::move(started).value());
      },
      [](Napi::Env env, Keeper& keeper) -> Napi::Value {
        return wrap_new(env, AddonData::of(env).link_keeper, keeper);
      });
}

Napi::Value attach_loop_device_js(const Napi::CallbackInfo& info) {
  const std::string path = string_argument(info, 0);
  const uint32_t block_bytes = uint32_argument(info, 1);
  return AsyncTask<std::string>::run(
      info.Env(), [path, block_bytes] { return attach::attach_loop_device(path, block_bytes); },
      [](Napi::Env env, std::string& device_path) -> Napi::Value {
        return Napi::String::New(env, device_path);
      });
}

Napi::Value detach_loop_device_js(const Napi::CallbackInfo& info) {
  return run_status_task(
      info.Env(), [path = string_argument(info, 0)] { return attach::detach_loop_device(path); });
}

Napi::Value drop_loop_device_js(const Napi::CallbackInfo& info) {
  return run_status_task(
      info.Env(), [device = string_argument(info, 0), file = string_argument(info, 1)] {
        return attach::drop_loop_device(device, file);
      });
}

Napi::Value end_fuse_mount_js(const Napi::CallbackInfo& info) {
  return run_status_task(
      info.Env(), [path = string_argument(info, 0)] { return attach::end_fuse_mount(path); });
}

}  // namespace

Napi::Function LinkKeeperObject::define(Napi::Env env) {
  return DefineClass(env, "LinkKeeper", {InstanceMethod("close", &LinkKeeperObject::close)});
}

LinkKeeperObject::LinkKeeperObject(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<LinkKeeperObject>(info) {
  handle_.set(unwrap_external<attach::LinkKeeper>(info));
}

Napi::Value LinkKeeperObject::close(const Napi::CallbackInfo& info) {
  return handle_.close(info.Env(), [](std::shared_ptr<attach::LinkKeeper> keeper) {
    keeper.reset();
    return Status::ok();
  });
}

void add_attach_functions(Napi::Env env, Napi::Object exports) {
  const auto add = [&](const char* name, Napi::Value (*function)(const Napi::CallbackInfo&)) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  add("probeKernelNbd", probe_kernel_nbd_js);
  add("connectKernelNbd", connect_kernel_nbd_js);
  add("reconnectKernelNbd", reconnect_kernel_nbd_js);
  add("resizeKernelNbd", resize_kernel_nbd_js);
  add("disconnectKernelNbd", disconnect_kernel_nbd_js);
  add("dropKernelNbd", drop_kernel_nbd_js);
  add("keepLinks", keep_links_js);
  add("attachLoopDevice", attach_loop_device_js);
  add("detachLoopDevice", detach_loop_device_js);
  add("dropLoopDevice", drop_loop_device_js);
  add("endFuseMount", end_fuse_mount_js);
}

}  // namespace tidemark
