// TlsSettings: a server's TLS, for all of its threads: the context that new
// connections use, and what became of clients that did not get through.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "common/mutex.h"
#include "nbd/tls_context.h"

namespace tidemark::nbd {

struct TlsRefusals {
  uint64_t total = 0;
  std::string last;  // a sentence; "" while there is none
};

class TlsSettings {
 public:
  explicit TlsSettings(std::shared_ptr<const TlsContext> context) : context_(std::move(context)) {}

  std::shared_ptr<const TlsContext> context() const {
    MutexLock lock(mutex_);
    return context_;
  }
  void replace(std::shared_ptr<const TlsContext> context) {
    MutexLock lock(mutex_);
    context_.swap(context);
  }

  void note_refusal(std::string text) {
    MutexLock lock(mutex_);
    ++refusals_.total;
    refusals_.last = std::move(text);
  }
  TlsRefusals refusals() const {
    MutexLock lock(mutex_);
    return refusals_;
  }

 private:
  mutable Mutex mutex_;
  std::shared_ptr<const TlsContext> context_ GUARDED_BY(mutex_);
  TlsRefusals refusals_ GUARDED_BY(mutex_);
};

}  // namespace tidemark::nbd
