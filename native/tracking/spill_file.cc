#include "tracking/spill_file.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "common/io_flusher.h"

namespace tidemark {

Result<std::unique_ptr<SpillFile>> SpillFile::create(const std::string& path, uint32_t slot_bytes,
                                                     uint64_t slot_count) {
  std::string name = path + ".XXXXXX";
  UniqueFd fd(::mkostemp(name.data(), O_CLOEXEC));
  if (!fd.is_open()) return Status::from_errno("cannot create the spill file " + name, errno);
  ::unlink(name.c_str());
  return std::unique_ptr<SpillFile>(new SpillFile(std::move(fd), slot_bytes, slot_count));
}

SpillFile::~SpillFile() { close(); }

bool SpillFile::reserve(uint64_t count, std::vector<uint64_t>& slots) {
  const MutexLock lock(mutex_);
  if (free_slots_.size() + (slot_count_ - used_slots_) < count) return false;
  for (; count > 0 && !free_slots_.empty(); --count) {
    slots.push_back(free_slots_.back());
    free_slots_.pop_back();
  }
  for (; count > 0; --count) slots.push_back(used_slots_++);
  return true;
}

void SpillFile::give_back(uint64_t slot) {
  const MutexLock lock(mutex_);
  free_slots_.push_back(slot);
}

bool SpillFile::write_later(SpillJob& job) {
  const MutexLock lock(mutex_);
  if (is_closed_) return false;
  if (!thread_.joinable()) {
    try {
      thread_ = std::thread([this] { run(); });
    } catch (const std::system_error&) {
      return false;
    }
  }
  queue_.push_back(&job);
  work_.notify_one();
  return true;
}

SpillJob* SpillFile::next_job() {
  MutexLock lock(mutex_);
  lock.wait(work_, [this]() NO_THREAD_SAFETY_ANALYSIS { return is_closed_ || !queue_.empty(); });
  if (queue_.empty()) return nullptr;
  SpillJob* const job = queue_.front();
  queue_.pop_front();
  return job;
}

void SpillFile::run() noexcept {
  while (SpillJob* const job = next_job()) {
    follow_io_flushers();
    job->done(*job, write(*job));
  }
}

int SpillFile::write(const SpillJob& job) noexcept {
  for (size_t i = 0; i < job.slots.size(); ++i) {
    {
      const MutexLock lock(mutex_);
      if (is_closed_) return ECANCELED;
    }
    const std::byte* const from = job.bytes + i * slot_bytes_;
    for (size_t done = 0; done < slot_bytes_;) {
      const auto at = static_cast<off_t>(job.slots[i] * slot_bytes_ + done);
      const ssize_t written = ::pwrite(fd_.get(), from + done, slot_bytes_ - done, at);
      if (written < 0 && errno != EINTR) return errno;
      if (written > 0) done += static_cast<size_t>(written);
    }
  }
  return 0;
}

int SpillFile::read(uint64_t slot, uint64_t offset_in_slot, std::span<std::byte> into) noexcept {
  for (size_t done = 0; done < into.size();) {
    const auto at = static_cast<off_t>(slot * slot_bytes_ + offset_in_slot + done);
    const ssize_t got = ::pread(fd_.get(), into.data() + done, into.size() - done, at);
    if (got < 0 && errno != EINTR) return errno;
    if (got == 0) return EIO;
    if (got > 0) done += static_cast<size_t>(got);
  }
  return 0;
}

void SpillFile::close() noexcept {
  std::thread ending;
  {
    const MutexLock lock(mutex_);
    is_closed_ = true;
    ending = std::move(thread_);
    work_.notify_all();
  }
  if (!ending.joinable()) return;
  ending.join();
  // Readers may still hold the descriptor; they meet the end of the file.
  if (::ftruncate(fd_.get(), 0) != 0) return;
}

}  // namespace tidemark
