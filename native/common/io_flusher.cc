#include "common/io_flusher.h"

#include <link.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include <cerrno>
#include <cstring>

// Of newer headers.
#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif
#ifndef MCL_ONFAULT
#define MCL_ONFAULT 4
#endif

namespace tidemark {

namespace {

constexpr size_t kPageBytes = 4096;

int lock_segments(dl_phdr_info* object, size_t, void*) {
  const bool is_library = object->dlpi_name != nullptr && object->dlpi_name[0] == '/';
  for (int i = 0; is_library && i < object->dlpi_phnum; ++i) {
    const auto& segment = object->dlpi_phdr[i];
    if (segment.p_type != PT_LOAD) continue;
    const uintptr_t begin = (object->dlpi_addr + segment.p_vaddr) & ~(kPageBytes - 1);
    const uintptr_t end = object->dlpi_addr + segment.p_vaddr + segment.p_memsz;
    ::mlock(reinterpret_cast<void*>(begin), end - begin);
  }
  return 0;
}

// What of it is used already, and what will be.
void lock_own_stack() noexcept {
  pthread_attr_t attributes;
  if (::pthread_getattr_np(::pthread_self(), &attributes) != 0) return;
  void* begin = nullptr;
  size_t size_bytes = 0;
  if (::pthread_attr_getstack(&attributes, &begin, &size_bytes) == 0) {
    ::mlock2(begin, size_bytes, MLOCK_ONFAULT);
  }
  ::pthread_attr_destroy(&attributes);
}

bool set_io_flusher() noexcept { return ::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) == 0; }

}  // namespace

// The calling thread tries it first: whether it is permitted is the same for all.
Status require_io_flushers() {
  if (!set_io_flusher()) {
    const int error = errno;
    return Status(ErrorCode::kUnsupported,
                  std::string("Cannot protect the I/O threads against memory pressure: because "
                              "PR_SET_IO_FLUSHER is refused (") +
                      std::strerror(error) + "). Run it as root, on Linux 5.6 or newer.",
                  error);
  }
  detail::is_io_flusher = true;
  ::dl_iterate_phdr(lock_segments, nullptr);
  detail::io_flushers_required.store(true);
  return Status::ok();
}

Status lock_process_memory() {
  if (::mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) == 0) return Status::ok();
  return Status::from_errno("Cannot lock the process's memory", errno);
}

void lock_buffer(std::byte* bytes, size_t size_bytes) noexcept {
  for (size_t i = 0; i < size_bytes; i += kPageBytes) {
    *const_cast<volatile std::byte*>(bytes + i) = std::byte{0};
  }
  ::mlock(bytes, size_bytes);
}

void detail::become_io_flusher() noexcept {
  is_io_flusher = true;  // also when it is refused: it would be refused again
  set_io_flusher();
  lock_own_stack();
}

}  // namespace tidemark
