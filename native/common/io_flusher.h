// Threads that a kernel block device of this machine waits for.
//
// To free memory, the kernel writes dirty pages to that device, and the device
// needs these threads: if they wait for memory, or are throttled because too
// much is dirty, nothing moves any more. PR_SET_IO_FLUSHER keeps their
// allocations from waiting for I/O, and throttles their writes only by the
// device that they write to themselves. Their code and their stacks are locked in
// memory, so that they need not be read back.
#pragma once

#include <atomic>
#include <cstddef>

#include "common/status.h"

namespace tidemark {

// From now on, and for good, all threads of the data path are such threads.
// Locks the libraries' code, not the program's: in Node, all that such threads run
// is in a library, and what V8 has locked it cannot give back.
// kUnsupported when the process may not (CAP_SYS_RESOURCE). Any thread.
Status require_io_flushers();

// What the process has touched, and whatever it touches later, stays in memory.
// For programs of our own, not in Node.
Status lock_process_memory();

// Takes the pages of a buffer beforehand and keeps them; best effort.
void lock_buffer(std::byte* bytes, size_t size_bytes) noexcept;

namespace detail {
inline std::atomic<bool> io_flushers_required{false};
inline thread_local bool is_io_flusher = false;
void become_io_flusher() noexcept;
}  // namespace detail

inline bool are_io_flushers_required() noexcept {
  return detail::io_flushers_required.load(std::memory_order_relaxed);
}

// Threads of the data path call it whenever they begin to work.
inline void follow_io_flushers() noexcept {
  if (are_io_flushers_required() && !detail::is_io_flusher) detail::become_io_flusher();
}

}  // namespace tidemark
