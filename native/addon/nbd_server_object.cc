#include "addon/nbd_server_object.h"

#include <netdb.h>
#include <sys/socket.h>

#include <cerrno>

#include "addon/addon_data.h"
#include "addon/device_object.h"
#include "common/fd.h"

namespace tidemark {

namespace {

struct AddressList {
  addrinfo* first = nullptr;
  ~AddressList() {
    if (first != nullptr) ::freeaddrinfo(first);
  }
};

// Node 20 can neither share nor hand over a listening socket between threads;
// workers that listen on sockets of one port can.
Result<UniqueFd> listen_with_reuse_port(const std::string& host, uint16_t port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE;
  AddressList addresses;
  const int failure =
      ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &addresses.first);
  if (failure != 0) {
    return Status(ErrorCode::kInvalidArgument, "Cannot listen on " + host +
                                                   ": it is not a numeric address (" +
                                                   ::gai_strerror(failure) + ").");
  }
  const addrinfo& address = *addresses.first;
  const std::string what = "Cannot listen on " + host + " port " + std::to_string(port);
  UniqueFd fd(::socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.is_open()) return Status::from_errno(what, errno);
  const int on = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0 ||
      ::bind(fd.get(), address.ai_addr, address.ai_addrlen) != 0 || ::listen(fd.get(), 511) != 0) {
    return Status::from_errno(what, errno);
  }
  return fd;
}

std::string string_of(const Napi::Object& options, const char* name) {
  return options.Get(name).As<Napi::String>().Utf8Value();
}

NbdTlsParameters tls_parameters_of(const Napi::Object& tls) {
  NbdTlsParameters parameters;
  parameters.certificate_pem = string_of(tls, "certificatePem");
  parameters.key_pem = string_of(tls, "keyPem");
  parameters.authority_pem = string_of(tls, "authorityPem");
  const auto allowed = tls.Get("allowedClients").As<Napi::Array>();
  for (uint32_t i = 0; i < allowed.Length(); ++i) {
    parameters.allowed_clients.push_back(allowed.Get(i).As<Napi::String>().Utf8Value());
  }
  return parameters;
}

}  // namespace

Napi::Function NbdServerObject::define(Napi::Env env) {
  using Self = NbdServerObject;
  return DefineClass(env, "NbdServer",
                     {
                         InstanceAccessor("address", &Self::address, nullptr),
                         InstanceMethod("addExport", &Self::add_export),
                         InstanceMethod("removeExport", &Self::remove_export),
                         InstanceMethod("clientCount", &Self::client_count),
                         InstanceMethod("accept", &Self::accept),
                         InstanceMethod("setTls", &Self::set_tls),
                         InstanceMethod("reconnectClients", &Self::reconnect_clients),
                         InstanceMethod("statistics", &Self::statistics),
                         InstanceMethod("close", &Self::close),
                     });
}

NbdServerObject::NbdServerObject(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<NbdServerObject>(info) {
  handle_.set(unwrap_external<NbdServer>(info));
}

Napi::Value NbdServerObject::address(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), handle_.get(info.Env()).address());
}

Napi::Value NbdServerObject::add_export(const Napi::CallbackInfo& info) {
  NbdExport entry;
  entry.name = string_argument(info, 0);
  entry.device = device_argument(info, 1).share_device(info.Env());
  entry.description = string_argument(info, 2);
  entry.read_only = bool_argument(info, 3);
  throw_unless_ok(info.Env(), handle_.get(info.Env()).add_export(std::move(entry)));
  return info.Env().Undefined();
}

Napi::Value NbdServerObject::remove_export(const Napi::CallbackInfo& info) {
  const std::string name = string_argument(info, 0);
  return run_status_task(info.Env(), [server = handle_.lease(info.Env()), name] {
    return server->remove_export(name);
  });
}

Napi::Value NbdServerObject::client_count(const Napi::CallbackInfo& info) {
  const uint32_t count = handle_.get(info.Env()).client_count(string_argument(info, 0));
  return Napi::Number::New(info.Env(), count);
}

Napi::Value NbdServerObject::accept(const Napi::CallbackInfo& info) {
  handle_.get(info.Env()).accept();
  return info.Env().Undefined();
}

Napi::Value NbdServerObject::set_tls(const Napi::CallbackInfo& info) {
  const NbdTlsParameters parameters = tls_parameters_of(info[0].As<Napi::Object>());
  throw_unless_ok(info.Env(), handle_.get(info.Env()).set_tls(parameters));
  return info.Env().Undefined();
}

Napi::Value NbdServerObject::reconnect_clients(const Napi::CallbackInfo& info) {
  throw_unless_ok(info.Env(), handle_.get(info.Env()).reconnect_clients(string_argument(info, 0)));
  return info.Env().Undefined();
}

Napi::Value NbdServerObject::statistics(const Napi::CallbackInfo& info) {
  const NbdServerStatistics statistics = handle_.get(info.Env()).statistics();
  Napi::Object object = Napi::Object::New(info.Env());
  object.Set("connectionsOpen", static_cast<double>(statistics.connections_open));
  object.Set("connectionsTotal", static_cast<double>(statistics.connections_total));
  object.Set("requestsTotal", static_cast<double>(statistics.requests_total));
  object.Set("errorsTotal", static_cast<double>(statistics.errors_total));
  object.Set("tlsRefusalsTotal", static_cast<double>(statistics.tls_refusals_total));
  object.Set("lastTlsRefusal", statistics.last_tls_refusal);
  return object;
}

Napi::Value NbdServerObject::close(const Napi::CallbackInfo& info) {
  return handle_.close(info.Env(), [](std::shared_ptr<NbdServer> server) {
    server->stop();
    return Status::ok();
  });
}

Napi::Value start_nbd_server_js(const Napi::CallbackInfo& info) {
  const Napi::Object options = info[0].As<Napi::Object>();
  NbdServerParameters parameters;
  parameters.unix_path = options.Get("unixPath").As<Napi::String>().Utf8Value();
  parameters.host = options.Get("host").As<Napi::String>().Utf8Value();
  parameters.port = static_cast<uint16_t>(options.Get("port").As<Napi::Number>().Uint32Value());
  parameters.listen_fd = options.Get("listenFd").As<Napi::Number>().Int32Value();
  parameters.idle_limit =
      std::chrono::milliseconds(options.Get("idleLimitMs").As<Napi::Number>().Uint32Value());
  parameters.thread_count = options.Get("threadCount").As<Napi::Number>().Uint32Value();
  parameters.accepts_at_once = options.Get("acceptsAtOnce").ToBoolean().Value();
  parameters.max_connections = options.Get("maxConnections").As<Napi::Number>().Uint32Value();
  if (const Napi::Value tls = options.Get("tls"); tls.IsObject()) {
    parameters.tls = tls_parameters_of(tls.As<Napi::Object>());
  }
  parameters.for_kernel_client = options.Get("forKernelClient").ToBoolean().Value();
  using Server = std::shared_ptr<NbdServer>;
  return AsyncTask<Server>::run(
      info.Env(),
      [parameters]() -> Result<Server> {
        auto started = NbdServer::start(parameters);
        if (!started.is_ok()) return started.status();
        return Server(std::move(started).value());
      },
      [](Napi::Env env, Server& server) -> Napi::Value {
        return wrap_new(env, AddonData::of(env).nbd_server, server);
      });
}

Napi::Value reuse_port_socket_js(const Napi::CallbackInfo& info) {
  UniqueFd fd = value_or_throw(
      info.Env(), listen_with_reuse_port(string_argument(info, 0),
                                         static_cast<uint16_t>(uint32_argument(info, 1))));
  return Napi::Number::New(info.Env(), fd.release());
}

}  // namespace tidemark
