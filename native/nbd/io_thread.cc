#include "nbd/io_thread.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "common/io_flusher.h"

namespace tidemark::nbd {

namespace {

// How long a client that does not read may hold up a stop.
constexpr std::chrono::milliseconds kFarewellLimit{1000};
constexpr uint32_t kLooksAnIdleLimit = 4;

// Signals are the program's business, not an I/O thread's.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_;
};

}  // namespace

IoThread::IoThread(const ExportRegistry& exports, TlsSettings* tls, const LoopLimits& limits)
    : exports_(exports), tls_(tls), limits_(limits), busy_poll_(limits.busy_poll) {}

Result<std::unique_ptr<IoThread>> IoThread::start(const ExportRegistry& exports, TlsSettings* tls,
                                                  const LoopLimits& limits) {
  std::unique_ptr<IoThread> self(new IoThread(exports, tls, limits));
  LoopContext& loop = self->loop_;
  if (!loop.poller.is_open() ||
      !loop.poller.add(loop.wake_up.fd(), EPOLLIN, self->wake_up_handler_)) {
    return Status::from_errno("Cannot start an NBD I/O thread", errno);
  }
  const SignalsBlocked signals_blocked;
  try {
    self->thread_ = std::thread([raw = self.get()] { raw->run(); });
  } catch (const std::system_error& error) {
    return Status::from_errno("Cannot start an NBD I/O thread", error.code().value());
  }
  pthread_setname_np(self->thread_.native_handle(), "tidemark-nbd");
  return self;
}

IoThread::~IoThread() {
  stop();
  join();
}

void IoThread::post(std::function<void()> task) {
  {
    MutexLock lock(mutex_);
    tasks_.push_back(std::move(task));
  }
  loop_.wake_up.ring();
}

void IoThread::adopt(UniqueFd socket_fd) {
  connection_count_.fetch_add(1);
  // A std::function must be copyable, so the descriptor travels shared.
  auto shared = std::make_shared<UniqueFd>(std::move(socket_fd));
  post([this, shared] { open(std::move(*shared)); });
}

void IoThread::end_connections_of(std::shared_ptr<ServedExport> served) {
  post([this, served = std::move(served)] {
    for (const auto& [key, connection] : connections_) {
      if (connection->served() == served.get()) connection->end_export();
    }
    // Nothing of it is kept for that long: its device may be closed before.
    call_after(kFarewellLimit, [this, ended = std::weak_ptr<ServedExport>(served)] {
      if (const auto lingering = ended.lock()) abandon_connections_of(*lingering);
    });
  });
}

void IoThread::shut_down_connections_of(std::shared_ptr<ServedExport> served) {
  post([this, served = std::move(served)] {
    std::vector<uint64_t> numbers;  // who comes back within the limit is another
    for (const auto& [number, connection] : connections_) {
      if (connection->served() != served.get()) continue;
      connection->shut_down();
      numbers.push_back(number);
    }
    call_after(kFarewellLimit, [this, numbers = std::move(numbers)] {
      for (const uint64_t number : numbers) {
        const auto found = connections_.find(number);
        if (found != connections_.end()) found->second->abandon();
      }
    });
  });
}

void IoThread::abandon_connections_of(const ServedExport& served) {
  for (const auto& [key, connection] : connections_) {
    if (connection->served() == &served) connection->abandon();
  }
}

void IoThread::stop() {
  post([this] { begin_stop(); });
}

void IoThread::join() {
  if (thread_.joinable()) thread_.join();
}

void IoThread::call_after(std::chrono::milliseconds delay, std::function<void()> task) {
  loop_.timers.emplace(LoopContext::Clock::now() + delay, std::move(task));
}

void IoThread::run() {
  loop_.mailbox.adopt_thread();
  if (limits_.idle_limit.count() > 0) look_for_silence();
  std::unique_ptr<LoopRing> ring = LoopRing::create();
  RingHandler handler(ring.get());
  // A ring that nobody looks at would keep its requests for ever.
  if (ring != nullptr && !loop_.poller.add(ring->fd(), EPOLLIN | EPOLLET, handler)) ring.reset();
  run_rounds(ring.get());
  if (ring != nullptr) loop_.poller.remove(ring->fd());
}

void IoThread::run_rounds(LoopRing* ring) {
  while (!is_stopping_ || !connections_.empty()) {
    wait();
    follow_io_flushers();
    finish_completions();
    run_tasks();
    run_timers();
    pump_delivering();
    pump_dirty();
    if (ring != nullptr) flush_ring(*ring);
    destroy_closed();
    const bool may_trim = limits_.buffer_keep_time.count() > 0 && !is_trim_due_;
    if (may_trim && loop_.chunks.cached_bytes() > 0) keep_buffers_for_a_while();
  }
}

// Gives the buffers back when none was used while the timer ran.
void IoThread::keep_buffers_for_a_while() {
  is_trim_due_ = true;
  call_after(limits_.buffer_keep_time, [this, before = loop_.chunks.acquisition_count()] {
    is_trim_due_ = false;
    if (loop_.chunks.acquisition_count() != before) return;
    loop_.chunks.trim();
    loop_.requests.trim();
  });
}

void IoThread::look_for_silence() {
  for (const auto& [key, connection] : connections_) {
    if (connection->look_for_silence() >= kLooksAnIdleLimit) connection->abandon();
  }
  const auto pause = std::max(limits_.idle_limit / kLooksAnIdleLimit, std::chrono::milliseconds(1));
  call_after(pause, [this] { look_for_silence(); });
}

// What ends while it is handed to the kernel makes connections dirty again.
void IoThread::flush_ring(LoopRing& ring) {
  do {
    ring.flush();
    pump_dirty();
  } while (!loop_.dirty.empty() || ring.has_unflushed());
}

void IoThread::wait() {
  if (poll_briefly()) return;
  loop_.wake_up.arm();
  const bool has_work = !loop_.mailbox.is_empty() || has_tasks();
  loop_.poller.dispatch(has_work ? 0 : timeout_ms());
  loop_.wake_up.disarm();
}

bool IoThread::poll_briefly() {
  if (connections_.empty() || !busy_poll_.is_worthwhile()) return false;
  const auto deadline = busy_poll_.deadline();
  do {
    if (loop_.poller.dispatch(0) || !loop_.mailbox.is_empty()) {
      busy_poll_.found();
      return true;
    }
  } while (BusyPoll::Clock::now() < deadline);
  busy_poll_.found_nothing();
  return false;
}

bool IoThread::has_tasks() {
  MutexLock lock(mutex_);
  return !tasks_.empty();
}

int IoThread::timeout_ms() const {
  if (!loop_.delivering.empty()) return static_cast<int>(LoopContext::kDeliveryPause.count());
  if (loop_.timers.empty()) return -1;
  const auto left = loop_.timers.begin()->first - LoopContext::Clock::now();
  const auto left_ms = std::chrono::ceil<std::chrono::milliseconds>(left).count();
  return static_cast<int>(std::clamp<int64_t>(left_ms, 0, 60'000));
}

void IoThread::finish_completions() {
  NbdRequest* request = loop_.mailbox.take_all();
  while (request != nullptr) {
    auto* next = static_cast<NbdRequest*>(request->next);
    request->owner->finish(*request);
    request = next;
  }
}

void IoThread::run_tasks() {
  std::vector<std::function<void()>> tasks;
  {
    MutexLock lock(mutex_);
    tasks.swap(tasks_);
  }
  for (const std::function<void()>& task : tasks) task();
}

void IoThread::run_timers() {
  auto& timers = loop_.timers;
  if (timers.empty()) return;
  const auto now = LoopContext::Clock::now();
  while (!timers.empty() && timers.begin()->first <= now) {
    const std::function<void()> task = std::move(timers.begin()->second);
    timers.erase(timers.begin());
    task();
  }
}

void IoThread::pump_dirty() {
  // Pumping one connection can make others dirty: the list grows as we go.
  for (size_t i = 0; i < loop_.dirty.size(); ++i) {
    Connection* connection = loop_.dirty[i];
    connection->is_dirty = false;
    connection->pump();
  }
  loop_.dirty.clear();
}

void IoThread::pump_delivering() {
  if (loop_.delivering.empty()) return;
  for (Connection* connection : std::exchange(loop_.delivering, {})) connection->pump();
}

void IoThread::destroy_closed() {
  for (const Connection* connection : loop_.closed) {
    std::erase(loop_.delivering, connection);
    connections_.erase(connection->number());
    connection_count_.fetch_sub(1);
  }
  loop_.closed.clear();
}

void IoThread::open(UniqueFd socket_fd) {
  const uint64_t number = next_number_++;
  auto owned = std::make_unique<Connection>(number, std::move(socket_fd), loop_, exports_, tls_);
  Connection& connection = *owned;
  connections_.emplace(number, std::move(owned));
  connection.start();
  if (is_stopping_) return connection.shut_down();
  call_after(limits_.handshake_limit, [this, number] {
    const auto found = connections_.find(number);
    if (found != connections_.end() && found->second->is_in_handshake()) found->second->abandon();
  });
}

void IoThread::begin_stop() {
  if (is_stopping_) return;
  is_stopping_ = true;
  for (const auto& [key, connection] : connections_) connection->shut_down();
  call_after(kFarewellLimit, [this] {
    for (const auto& [key, connection] : connections_) connection->abandon();
  });
}

}  // namespace tidemark::nbd
