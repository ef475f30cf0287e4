#include "layers/scratch_flusher.h"

#include <utility>

#include "common/failpoint.h"
#include "device/sync_io.h"

namespace tidemark {

void ScratchFlusher::flush(IoRequest& request) noexcept {
  {
    const MutexLock lock(mutex_);
    request.next = waiting_;
    waiting_ = &request;
    if (running_) return;
    running_ = true;
  }
  run_flat(*this);
}

Status ScratchFlusher::flush_and_wait() {
  IoRequest request;
  request.op = IoOp::kFlush;
  const int error = wait_for(request, [this](IoRequest& each) { flush(each); });
  return error == 0 ? Status::ok() : Status::from_errno("cannot flush", error);
}

void ScratchFlusher::run() noexcept {
  switch (step_) {
    case Step::kBegin:
      return begin();
    case Step::kDataSynced:
      return write_journal();
    case Step::kJournalWritten:
      return sync_index();
    case Step::kIndexSynced:
      return commit();
    case Step::kCopied:
      if (error_ != 0) index_->copy_failed(step_request_);
      return copy_next();
  }
}

// The last thing a step does: the next may already run on another thread.
void ScratchFlusher::submit(BlockDevice& device, Step next_step) noexcept {
  step_ = next_step;
  step_request_.push(
      [](IoRequest&, void* context, uint64_t, int error) noexcept {
        auto& flusher = *static_cast<ScratchFlusher*>(context);
        flusher.error_ = error;
        run_flat(flusher);
      },
      this);
  device.submit(step_request_);
}

void ScratchFlusher::sync(BlockDevice& device, Step next_step) noexcept {
  step_request_.op = IoOp::kFlush;
  step_request_.flags = 0;
  step_request_.offset_bytes = 0;
  step_request_.length_bytes = 0;
  step_request_.data = nullptr;
  submit(device, next_step);
}

void ScratchFlusher::begin() noexcept {
  {
    const MutexLock lock(mutex_);
    served_ = std::exchange(waiting_, nullptr);
  }
  error_ = data_error_ != 0 ? data_error_ : index_->begin_cycle();
  if (error_ != 0) return end();
  sync(*data_, Step::kDataSynced);
}

void ScratchFlusher::write_journal() noexcept {
  if (error_ != 0) {
    data_error_ = error_;
    return fail();
  }
  failpoint("scratch.data_synced");
  if (!index_->has_changes()) return end();
  index_->make_journal_write(step_request_);
  submit(index_->device(), Step::kJournalWritten);
}

void ScratchFlusher::sync_index() noexcept {
  if (error_ != 0) return fail();
  failpoint("scratch.journal_written");
  sync(index_->device(), Step::kIndexSynced);
}

void ScratchFlusher::commit() noexcept {
  if (error_ != 0) return fail();
  failpoint("scratch.index_synced");
  index_->commit();
  copy_next();
}

// A copy that fails is made good by the next cycle; the flush has succeeded.
void ScratchFlusher::copy_next() noexcept {
  error_ = 0;
  if (!index_->make_copy_write(step_request_)) return end();
  submit(index_->device(), Step::kCopied);
}

void ScratchFlusher::fail() noexcept {
  index_->abandon_cycle();
  end();
}

// Completing the last request may end this object's life, unless others wait.
void ScratchFlusher::end() noexcept {
  IoRequest* request = std::exchange(served_, nullptr);
  const int error = error_;
  step_ = Step::kBegin;  // before another thread may start a cycle
  bool again = false;
  {
    const MutexLock lock(mutex_);
    again = waiting_ != nullptr;
    running_ = again;
  }
  if (again) run_flat(*this);
  while (request != nullptr) {
    IoRequest* const next = request->next;
    request->complete(error);
    request = next;
  }
}

}  // namespace tidemark
