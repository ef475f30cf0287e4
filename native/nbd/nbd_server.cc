#include "nbd/nbd_server.h"

#include <algorithm>
#include <thread>
#include <vector>

#include "common/mutex.h"
#include "nbd/acceptor.h"
#include "nbd/export_registry.h"
#include "nbd/io_thread.h"
#include "nbd/listening_socket.h"

namespace tidemark {

class NbdServer::Impl {
 public:
  Impl(nbd::ListeningSocket listening_socket, uint32_t max_connections)
      : listening_socket_(std::move(listening_socket)),
        acceptor_(listening_socket_, threads_, max_connections) {}

  Status start_threads(const NbdServerParameters& parameters);
  Status add_export(NbdExport entry) { return exports_.add(std::move(entry)); }
  Status remove_export(const std::string& name);
  const std::string& address() const { return listening_socket_.address(); }
  NbdServerStatistics statistics() const;
  void stop();

 private:
  nbd::ExportRegistry exports_;
  nbd::ListeningSocket listening_socket_;  // after start: threads_[0]'s
  nbd::Acceptor::Threads threads_;         // fixed after start; destroyed before what they use
  nbd::Acceptor acceptor_;                 // threads_[0]'s

  Mutex stop_mutex_;
  bool is_stopped_ GUARDED_BY(stop_mutex_) = false;
};

Status NbdServer::Impl::start_threads(const NbdServerParameters& parameters) {
  const uint32_t core_count = std::max(2U, std::thread::hardware_concurrency());
  const uint32_t count = parameters.thread_count > 0 ? parameters.thread_count : core_count;
  for (uint32_t i = 0; i < count; ++i) {
    auto thread = nbd::IoThread::start(
        exports_,
        {parameters.handshake_limit, parameters.idle_limit, parameters.buffer_keep_time});
    if (!thread.is_ok()) return thread.status();
    threads_.push_back(std::move(thread).value());
  }
  threads_[0]->post([this] { acceptor_.start(); });
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
  auto listening_socket = nbd::ListeningSocket::open(parameters);
  if (!listening_socket.is_ok()) return listening_socket.status();
  auto impl =
      std::make_unique<Impl>(std::move(listening_socket).value(), parameters.max_connections);
  if (Status status = impl->start_threads(parameters); !status.is_ok()) return status;
  return std::unique_ptr<NbdServer>(new NbdServer(std::move(impl)));
}

Status NbdServer::add_export(NbdExport entry) { return impl_->add_export(std::move(entry)); }

Status NbdServer::remove_export(const std::string& name) { return impl_->remove_export(name); }

std::string NbdServer::address() const { return impl_->address(); }

NbdServerStatistics NbdServer::statistics() const { return impl_->statistics(); }

void NbdServer::stop() { impl_->stop(); }

}  // namespace tidemark
