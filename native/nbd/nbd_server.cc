#include "nbd/nbd_server.h"

#include <algorithm>
#include <chrono>
#include <thread>
#include <vector>

#include "common/io_flusher.h"
#include "common/mutex.h"
#include "nbd/acceptor.h"
#include "nbd/export_registry.h"
#include "nbd/io_thread.h"
#include "nbd/listening_socket.h"
#include "nbd/tls_settings.h"

namespace tidemark {

namespace {

constexpr auto kRemovalPoll = std::chrono::milliseconds(1);
constexpr int kRemovalPolls = 2000;

}  // namespace

class NbdServer::Impl {
 public:
  Impl(nbd::ListeningSocket listening_socket, std::shared_ptr<const nbd::TlsContext> tls_context,
       uint32_t max_connections)
      : listening_socket_(std::move(listening_socket)),
        tls_(tls_context ? std::make_unique<nbd::TlsSettings>(std::move(tls_context)) : nullptr),
        acceptor_(listening_socket_, threads_, max_connections) {}

  Status start_threads(const NbdServerParameters& parameters);
  void accept() {
    threads_[0]->post([this] { acceptor_.start(); });
  }
  Status add_export(NbdExport entry) { return exports_.add(std::move(entry)); }
  Status remove_export(const std::string& name);
  uint32_t client_count(const std::string& name) const;
  Status set_tls(const NbdTlsParameters& parameters);
  Status reconnect_clients(const std::string& name);
  const std::string& address() const { return listening_socket_.address(); }
  NbdServerStatistics statistics() const;
  void stop();

 private:
  nbd::ExportRegistry exports_;
  nbd::ListeningSocket listening_socket_;        // after start: threads_[0]'s
  const std::unique_ptr<nbd::TlsSettings> tls_;  // null: no TLS
  nbd::Acceptor::Threads threads_;  // fixed after start; destroyed before what they use
  nbd::Acceptor acceptor_;          // threads_[0]'s

  Mutex stop_mutex_;
  bool is_stopped_ GUARDED_BY(stop_mutex_) = false;
};

Status NbdServer::Impl::start_threads(const NbdServerParameters& parameters) {
  const uint32_t core_count = std::max(2U, std::thread::hardware_concurrency());
  const uint32_t count = parameters.thread_count > 0 ? parameters.thread_count : core_count;
  // What a kernel's client needs was taken beforehand, and stays.
  const auto keep_time =
      parameters.for_kernel_client ? std::chrono::milliseconds(0) : parameters.buffer_keep_time;
  const nbd::LoopLimits limits{parameters.handshake_limit, parameters.idle_limit, keep_time,
                               parameters.busy_poll};
  for (uint32_t i = 0; i < count; ++i) {
    auto thread = nbd::IoThread::start(exports_, tls_.get(), limits);
    if (!thread.is_ok()) return thread.status();
    threads_.push_back(std::move(thread).value());
  }
  if (parameters.for_kernel_client) {
    for (const auto& thread : threads_) thread->reserve_buffers();
  }
  if (parameters.accepts_at_once) accept();
  return Status::ok();
}

Status NbdServer::Impl::remove_export(const std::string& name) {
  const auto served = exports_.remove(name);
  if (served == nullptr) {
    return Status(ErrorCode::kNotFound, "Cannot remove export '" + name.substr(0, 64) +
                                            "': because there is none of that name.");
  }
  for (const auto& thread : threads_) thread->end_connections_of(served);
  served->wait_until_unused();
  // The threads may not have come to what was posted to them; stopped ones never do.
  for (int i = 0; i < kRemovalPolls && served.use_count() > 1; ++i) {
    std::this_thread::sleep_for(kRemovalPoll);
  }
  return Status::ok();
}

uint32_t NbdServer::Impl::client_count(const std::string& name) const {
  const auto served = exports_.find(name);
  return served == nullptr ? 0 : served->user_count();
}

Status NbdServer::Impl::set_tls(const NbdTlsParameters& parameters) {
  if (tls_ == nullptr) {
    return Status(ErrorCode::kInvalidArgument,
                  "Cannot set the server's certificates: because it was started without TLS. "
                  "Start it with TLS.");
  }
  auto context = nbd::TlsContext::create(parameters);
  if (!context.is_ok()) return context.status();
  tls_->replace(std::move(context).value());
  return Status::ok();
}

Status NbdServer::Impl::reconnect_clients(const std::string& name) {
  const auto served = exports_.find(name);
  if (served == nullptr) {
    return Status(ErrorCode::kNotFound, "Cannot reconnect the clients of export '" +
                                            name.substr(0, 64) +
                                            "': because there is none of that name.");
  }
  for (const auto& thread : threads_) thread->shut_down_connections_of(served);
  return Status::ok();
}

NbdServerStatistics NbdServer::Impl::statistics() const {
  NbdServerStatistics statistics;
  statistics.connections_total = acceptor_.connections_total();
  for (const auto& thread : threads_) {
    statistics.connections_open += thread->connection_count();
    statistics.requests_total += thread->requests_total();
    statistics.errors_total += thread->errors_total();
  }
  if (tls_ != nullptr) {
    nbd::TlsRefusals refusals = tls_->refusals();
    statistics.tls_refusals_total = refusals.total;
    statistics.last_tls_refusal = std::move(refusals.last);
  }
  return statistics;
}

// The acceptor stops first and on its own thread: what it adopted before is
// posted before the threads' own stop.
void NbdServer::Impl::stop() {
  MutexLock lock(stop_mutex_);
  if (is_stopped_ || threads_.empty()) return;
  is_stopped_ = true;
  threads_[0]->post([this] {
    acceptor_.stop();
    for (const auto& thread : threads_) thread->stop();
  });
  for (const auto& thread : threads_) thread->join();
}

NbdServer::NbdServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

NbdServer::~NbdServer() { stop(); }

Result<std::unique_ptr<NbdServer>> NbdServer::start(const NbdServerParameters& parameters) {
  std::shared_ptr<const nbd::TlsContext> tls_context;
  if (parameters.tls) {
    auto created = nbd::TlsContext::create(*parameters.tls);
    if (!created.is_ok()) return created.status();
    tls_context = std::move(created).value();
  }
  if (parameters.for_kernel_client) {
    if (Status status = require_io_flushers(); !status.is_ok()) return status;
  }
  auto listening_socket = nbd::ListeningSocket::open(parameters);
  if (!listening_socket.is_ok()) return listening_socket.status();
  auto impl = std::make_unique<Impl>(std::move(listening_socket).value(), std::move(tls_context),
                                     parameters.max_connections);
  if (Status status = impl->start_threads(parameters); !status.is_ok()) return status;
  return std::unique_ptr<NbdServer>(new NbdServer(std::move(impl)));
}

void NbdServer::accept() { impl_->accept(); }

Status NbdServer::add_export(NbdExport entry) { return impl_->add_export(std::move(entry)); }

Status NbdServer::remove_export(const std::string& name) { return impl_->remove_export(name); }

uint32_t NbdServer::client_count(const std::string& name) const {
  return impl_->client_count(name);
}

Status NbdServer::set_tls(const NbdTlsParameters& parameters) { return impl_->set_tls(parameters); }

Status NbdServer::reconnect_clients(const std::string& name) {
  return impl_->reconnect_clients(name);
}

std::string NbdServer::address() const { return impl_->address(); }

NbdServerStatistics NbdServer::statistics() const { return impl_->statistics(); }

void NbdServer::stop() { impl_->stop(); }

}  // namespace tidemark
