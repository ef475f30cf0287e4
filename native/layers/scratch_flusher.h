// ScratchFlusher: makes a scratch's data and then its index durable, for all
// flushes that wait, in one cycle at a time.
//
// Order of a cycle: take the changed index pages; sync the data; write the
// journal; sync the index; copy the pages to their places. A state is durable
// only after the data it speaks of.
#pragma once

#include <memory>

#include "common/mutex.h"
#include "device/block_device.h"
#include "layers/run_flat.h"
#include "layers/scratch_index.h"

namespace tidemark {

class ScratchFlusher final : private FlatTask {
 public:
  ScratchFlusher(std::shared_ptr<BlockDevice> data, std::unique_ptr<ScratchIndex> index)
      : data_(std::move(data)), index_(std::move(index)) {}

  // Completes `request` when everything that completed before this call is
  // durable. Any thread.
  void flush(IoRequest& request) noexcept EXCLUDES(mutex_);
  // The same for a thread that may block.
  Status flush_and_wait() EXCLUDES(mutex_);

 private:
  enum class Step : uint8_t {
    kBegin,
    kDataSynced,
    kJournalWritten,
    kIndexSynced,
    kCopied,
  };

  void run() noexcept override;
  void begin() noexcept;
  void write_journal() noexcept;
  void sync_index() noexcept;
  void commit() noexcept;
  void copy_next() noexcept;
  void fail() noexcept;
  void end() noexcept;
  void submit(BlockDevice& device, Step next_step) noexcept;
  void sync(BlockDevice& device, Step next_step) noexcept;

  const std::shared_ptr<BlockDevice> data_;

  Mutex mutex_;
  IoRequest* waiting_ GUARDED_BY(mutex_) = nullptr;
  bool running_ GUARDED_BY(mutex_) = false;

  // The running cycle's alone.
  const std::unique_ptr<ScratchIndex> index_;
  IoRequest* served_ = nullptr;
  IoRequest step_request_;
  Step step_ = Step::kBegin;
  int error_ = 0;       // of the last step
  int data_error_ = 0;  // of a data sync, for good: the kernel may have dropped the data
};

}  // namespace tidemark
