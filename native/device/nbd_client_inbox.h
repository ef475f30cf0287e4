// NbdClientInbox: the way of requests from any thread to the device's own.
//
// A lock-free list of requests, and an eventfd that is written only while the
// receiver sleeps (`armed_`; the order is that of a publish on one side and a
// check after arming on the other, both sequentially consistent).
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "common/fd.h"
#include "common/mutex.h"
#include "device/io_request.h"
#include "device/nbd_extent_query.h"

namespace tidemark {

class NbdClientInbox {
 public:
  NbdClientInbox();
  ~NbdClientInbox();  // once nobody is inside post() any more
  NbdClientInbox(const NbdClientInbox&) = delete;
  NbdClientInbox& operator=(const NbdClientInbox&) = delete;

  bool is_open() const noexcept { return wake_fd_.is_open() && stop_fd_.is_open(); }

  // Any thread. The inbox is not touched any more once the request can complete.
  void post(IoRequest& request) noexcept;
  void post(std::shared_ptr<NbdExtentQuery> query);
  void give_up() noexcept;  // fail what waits, and all that comes
  void stop() noexcept;     // end the thread

  bool is_stopped() const noexcept { return is_stopped_.load(); }
  bool is_given_up() const noexcept { return is_given_up_.load(); }

  // The receiver's thread.
  bool is_empty();
  IoRequest* take_requests() noexcept;  // oldest first, linked through `next`
  std::vector<std::shared_ptr<NbdExtentQuery>> take_queries();
  void arm() noexcept { armed_.store(true); }
  void disarm() noexcept { armed_.store(false); }
  void clear_wake() noexcept;
  int wake_fd() const noexcept { return wake_fd_.get(); }
  // Readable from stop() or give_up() on: what blocks gives up then.
  int stop_fd() const noexcept { return stop_fd_.get(); }

 private:
  void ring() noexcept;

  UniqueFd wake_fd_;
  UniqueFd stop_fd_;
  std::atomic<bool> armed_{false};
  std::atomic<IoRequest*> head_{nullptr};
  std::atomic<uint32_t> poster_count_{0};
  std::atomic<bool> is_stopped_{false};
  std::atomic<bool> is_given_up_{false};

  Mutex mutex_;
  std::vector<std::shared_ptr<NbdExtentQuery>> queries_ GUARDED_BY(mutex_);
};

}  // namespace tidemark
