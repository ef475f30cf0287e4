// Mutex with clang's thread-safety annotations: members say which mutex guards
// them, and a clang build with -Wthread-safety refuses code that forgets it.
// Locks are taken as scopes only (MutexLock), and never held over I/O.
#pragma once

#include <condition_variable>
#include <mutex>

#if defined(__clang__)
#define TIDEMARK_TSA(x) __attribute__((x))
#else
#define TIDEMARK_TSA(x)
#endif

#define CAPABILITY(x) TIDEMARK_TSA(capability(x))
#define SCOPED_CAPABILITY TIDEMARK_TSA(scoped_lockable)
#define GUARDED_BY(x) TIDEMARK_TSA(guarded_by(x))
#define REQUIRES(...) TIDEMARK_TSA(requires_capability(__VA_ARGS__))
#define EXCLUDES(...) TIDEMARK_TSA(locks_excluded(__VA_ARGS__))
#define ACQUIRE(...) TIDEMARK_TSA(acquire_capability(__VA_ARGS__))
#define RELEASE(...) TIDEMARK_TSA(release_capability(__VA_ARGS__))
#define NO_THREAD_SAFETY_ANALYSIS TIDEMARK_TSA(no_thread_safety_analysis)

namespace tidemark {

class CAPABILITY("mutex") Mutex {
 public:
  void lock() ACQUIRE() { mutex_.lock(); }
  void unlock() RELEASE() { mutex_.unlock(); }

 private:
  friend class MutexLock;
  std::mutex mutex_;
};

class SCOPED_CAPABILITY MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) ACQUIRE(mutex) : lock_(mutex.mutex_) {}
  ~MutexLock() RELEASE() {}
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

  // The predicate runs with the mutex held.
  template <typename Predicate>
  void wait(std::condition_variable& condition, Predicate predicate) {
    condition.wait(lock_, predicate);
  }
  template <typename Clock, typename Duration, typename Predicate>
  bool wait_until(std::condition_variable& condition,
                  const std::chrono::time_point<Clock, Duration>& deadline, Predicate predicate) {
    return condition.wait_until(lock_, deadline, predicate);
  }

 private:
  std::unique_lock<std::mutex> lock_;
};

}  // namespace tidemark
