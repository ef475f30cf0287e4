// Which granules of a scratch are being written, and who waits for them.
//
// Shared holders write data in granules that need no fill, or whole ones; an
// exclusive holder fills a granule from below or makes it zero. The order of
// waiting is kept, so that nobody starves. Readers take no lock: a granule's
// state changes only after its new content is in the file.
//
// Representation: two lists, of what is held and of what waits. Workload: as many
// entries as requests are in flight (tens). Cost: a walk of the lists.
#pragma once

#include <cstdint>

#include "common/mutex.h"
#include "layers/run_flat.h"

namespace tidemark {

// One holder's claim on the granules [first, end); a task, run when it is granted
// later than at once.
class GranuleClaim : public FlatTask {
 public:
  uint64_t first_granule = 0;
  uint64_t end_granule = 0;
  bool exclusive = false;

 protected:
  ~GranuleClaim() override = default;

 private:
  friend class GranuleLocks;
  friend class ClaimList;
  bool conflicts_with(const GranuleClaim& other) const noexcept {
    return (exclusive || other.exclusive) && first_granule < other.end_granule &&
           other.first_granule < end_granule;
  }
  GranuleClaim* previous_ = nullptr;
  GranuleClaim* next_ = nullptr;
  GranuleClaim* next_granted_ = nullptr;
};

class ClaimList {
 public:
  GranuleClaim* head() const noexcept { return head_; }
  static GranuleClaim* after(const GranuleClaim& claim) noexcept { return claim.next_; }
  void append(GranuleClaim& claim) noexcept;
  void remove(GranuleClaim& claim) noexcept;
  // Looks at the claims up to `stop` (null: all of them).
  bool conflicts_before(const GranuleClaim* stop, const GranuleClaim& claim) const noexcept;

 private:
  GranuleClaim* head_ = nullptr;
  GranuleClaim* tail_ = nullptr;
};

class GranuleLocks {
 public:
  // True: held now. False: claim.run() is called when it is held.
  bool lock(GranuleClaim& claim) EXCLUDES(mutex_);
  // Runs those that it lets in; touches the locks no more once the first runs.
  void unlock(GranuleClaim& claim) EXCLUDES(mutex_);

 private:
  GranuleClaim* grant_waiting() REQUIRES(mutex_);

  Mutex mutex_;
  ClaimList held_ GUARDED_BY(mutex_);
  ClaimList waiting_ GUARDED_BY(mutex_);
};

}  // namespace tidemark
