#include "nbd/acceptor.h"

#include <sys/socket.h>

#include <cerrno>

namespace tidemark::nbd {

namespace {

constexpr int kMaximumAcceptsAtOnce = 64;  // then the connections have their turn
constexpr std::chrono::milliseconds kPause{100};

}  // namespace

void Acceptor::start() {
  if (is_started_ || is_stopped_) return;
  is_started_ = true;
  threads_[0]->poller().add(listening_socket_.fd(), EPOLLIN, *this);
}

void Acceptor::stop() {
  if (is_stopped_) return;
  is_stopped_ = true;
  if (is_started_) threads_[0]->poller().remove(listening_socket_.fd());
  listening_socket_.close();
}

void Acceptor::on_events(uint32_t) {
  for (int i = 0; i < kMaximumAcceptsAtOnce && !is_stopped_; ++i) {
    if (!accept_one()) return;
  }
}

bool Acceptor::accept_one() {
  UniqueFd socket_fd(
      ::accept4(listening_socket_.fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (!socket_fd.is_open()) {
    if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) pause();
    return errno == EINTR || errno == ECONNABORTED;
  }
  uint32_t open_count = 0;
  IoThread* emptiest = threads_[0].get();
  for (const auto& thread : threads_) {
    open_count += thread->connection_count();
    if (thread->connection_count() < emptiest->connection_count()) emptiest = thread.get();
  }
  if (open_count >= max_connections_) return true;  // closed: a clear answer
  listening_socket_.prepare(socket_fd.get());
  connections_total_.fetch_add(1);
  emptiest->adopt(std::move(socket_fd));
  return true;
}

// Out of descriptors: the level-triggered event would spin until some are free.
void Acceptor::pause() {
  threads_[0]->poller().modify(listening_socket_.fd(), 0, *this);
  threads_[0]->call_after(kPause, [this] {
    if (!is_stopped_) threads_[0]->poller().modify(listening_socket_.fd(), EPOLLIN, *this);
  });
}

}  // namespace tidemark::nbd
