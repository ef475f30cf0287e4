// The writers' side of FrozenBlocks: copy before write.
#include <algorithm>
#include <cstring>
#include <string>

#include "common/failpoint.h"
#include "tracking/frozen_blocks.h"
#include "tracking/parked_write.h"

namespace tidemark {

namespace {

// What one write may have under way at a time; bounds memory, not progress.
constexpr uint64_t kSaveWindowBytes = 4ULL << 20;
constexpr uint64_t kSavingReadBytes = 1ULL << 20;

bool is_settled(BlockState state) noexcept {
  return state == BlockState::kSaved || state == BlockState::kReleased;
}

}  // namespace

bool FrozenBlocks::must_save(uint64_t offset_bytes, uint64_t end_bytes) const noexcept {
  if (is_over()) return false;
  const uint64_t end = block_end_at(end_bytes);
  uint64_t first = block_at(offset_bytes);
  while (const auto run = blocks_.next(first, end)) {
    for (first = run->first; first < run->end; ++first) {
      if (!is_settled(states_->get(first))) return true;
    }
    if (first == end) break;
  }
  return false;
}

uint64_t FrozenBlocks::save(uint64_t from_bytes, uint64_t end_bytes, ParkedWrite& write) {
  const uint64_t end = block_end_at(end_bytes);
  uint64_t first = block_at(from_bytes);
  uint64_t budget = std::max<uint64_t>(1, kSaveWindowBytes / block_bytes_);
  while (first < end && budget > 0 && !is_over()) {
    const auto run = blocks_.next(first, end);
    if (!run) return end_bytes;
    const uint64_t group_end = (run->first / kGroupBlocks + 1) * kGroupBlocks;
    const uint64_t stop = std::min({run->end, group_end, run->first + budget});
    save_group(run->first, stop, write);
    budget -= stop - run->first;
    first = stop;
  }
  return first >= end || is_over() ? end_bytes : first * block_bytes_;
}

// [first, end) lies within one group and wholly within the capture.
void FrozenBlocks::save_group(uint64_t first, uint64_t end, ParkedWrite& write) {
  Reads reads = claim_group(first, end, write);
  for (std::unique_ptr<SavingRead>& read : reads) start(std::move(read));
}

// Moves the frozen blocks to copying, in runs, and joins the copies of others.
// The reads are started by the caller, without the mutex: they may end at once.
FrozenBlocks::Reads FrozenBlocks::claim_group(uint64_t first, uint64_t end, ParkedWrite& write) {
  const uint64_t max_blocks = std::max<uint64_t>(1, kSavingReadBytes / block_bytes_);
  Reads reads;
  SavingRead* last_waited = nullptr;
  Shard& shard = shard_of(first);
  const MutexLock lock(shard.mutex);
  while (first < end) {
    uint64_t run_end = first;
    while (run_end < end && run_end - first < max_blocks &&
           states_->change(run_end, BlockState::kFrozen, BlockState::kCopying)) {
      ++run_end;
    }
    if (run_end == first) {
      wait_for_copying(shard, first++, last_waited, write);
      continue;
    }
    std::unique_ptr<SavingRead> read = make_read(first, run_end);
    if (read == nullptr) return reads;  // broken: nobody looks at the states any more
    for (; first < run_end; ++first) shard.copying.emplace(first, read.get());
    read->waiters.push_back(&write);
    write.wait_for_one();
    reads.push_back(std::move(read));
  }
  return reads;
}

void FrozenBlocks::wait_for_copying(Shard& shard, uint64_t block_index, SavingRead*& last_waited,
                                    ParkedWrite& write) {
  const auto found = shard.copying.find(block_index);
  if (found == shard.copying.end() || found->second == last_waited) return;
  last_waited = found->second;
  last_waited->waiters.push_back(&write);
  write.wait_for_one();
}

// Null, and the capture broken, when there is no room.
std::unique_ptr<SavingRead> FrozenBlocks::make_read(uint64_t first, uint64_t end) {
  auto read = std::make_unique<SavingRead>();
  read->first_block = first;
  read->block_count = end - first;
  if (!store_->reserve(read->block_count, read->spill.slots)) {
    break_capture("the capture store is full");
    return nullptr;
  }
  read->bytes = CaptureStore::allocate(read->block_count * block_bytes_);
  if (read->bytes == nullptr) {
    break_capture("there is no memory to save a block");
    return nullptr;
  }
  read->owner = this;
  return read;
}

void FrozenBlocks::start(std::unique_ptr<SavingRead> read) noexcept {
  SavingRead* const own = read.release();  // on_read() takes it over
  IoRequest& request = own->request;
  request.op = IoOp::kRead;
  request.offset_bytes = own->first_block * block_bytes_;
  request.length_bytes =
      std::min(own->end_block() * block_bytes_, disk_size_bytes_) - request.offset_bytes;
  request.data = own->bytes.get();
  request.push(on_read, own);
  backing_->submit(request);
}

void FrozenBlocks::on_read(IoRequest& /*request*/, void* context, uint64_t /*word*/,
                           int error) noexcept {
  std::unique_ptr<SavingRead> read(static_cast<SavingRead*>(context));
  FrozenBlocks& owner = *read->owner;
  if (error != 0) {
    owner.break_capture(std::string("a block could not be read to save it: ") +
                        std::strerror(error));
    owner.finish(std::move(read), false);
    return;
  }
  failpoint("copy-before-write");
  if (read->spill.slots.empty()) {
    owner.finish(std::move(read), true);
    return;
  }
  read->spill.bytes = read->bytes.get();
  read->spill.done = on_spilled;
  read->spill.context = read.get();
  SavingRead* const spilling = read.release();  // on_spilled() takes it over
  if (owner.store_->spill()->write_later(spilling->spill)) return;
  read.reset(spilling);
  owner.break_capture("the spill file cannot be written");
  owner.finish(std::move(read), false);
}

void FrozenBlocks::on_spilled(SpillJob& job, int error) noexcept {
  std::unique_ptr<SavingRead> read(static_cast<SavingRead*>(job.context));
  FrozenBlocks& owner = *read->owner;
  if (error != 0) {
    owner.break_capture(std::string("the spill file cannot be written: ") + std::strerror(error));
  }
  owner.finish(std::move(read), error == 0);
}

// The blocks are saved, or the capture is over; either way the writes go on.
// Once the last of them has left the gate this object may be gone.
void FrozenBlocks::finish(std::unique_ptr<SavingRead> read, bool is_good) noexcept {
  Shard& shard = shard_of(read->first_block);
  std::vector<ParkedWrite*> waiters;
  {
    const MutexLock lock(shard.mutex);
    for (uint64_t block = read->first_block; block < read->end_block(); ++block) {
      shard.copying.erase(block);
      if (is_good && !is_over()) {
        keep(shard, *read, block);
      } else {
        store_->give_back(place_of(*read, block));
      }
    }
    waiters.swap(read->waiters);
    shard.copied.notify_all();
  }
  read.reset();
  for (ParkedWrite* const waiter : waiters) waiter->saved();
}

void FrozenBlocks::keep(Shard& shard, const SavingRead& read, uint64_t block_index) {
  SavedBlock place = place_of(read, block_index);
  if (place.bytes != nullptr && read.block_count > 1) {
    place.bytes = CaptureStore::allocate(block_bytes_);
    if (place.bytes == nullptr) {
      break_capture("there is no memory to save a block");
      store_->give_back(place_of(read, block_index));
      return;
    }
    const std::byte* const from = place_of(read, block_index).bytes.get();
    std::memcpy(place.bytes.get(), from, block_bytes_);
  }
  shard.saved.emplace(block_index, place);
  if (states_->change(block_index, BlockState::kCopying, BlockState::kSaved)) {
    saved_bytes_.fetch_add(block_bytes_);
    return;
  }
  shard.saved.erase(block_index);  // released meanwhile
  store_->give_back(place);
}

// Where this block of the read has its room; in memory it points into the read.
SavedBlock FrozenBlocks::place_of(const SavingRead& read, uint64_t block_index) const {
  const uint64_t index = block_index - read.first_block;
  if (!read.spill.slots.empty()) return {nullptr, read.spill.slots[index]};
  return {{read.bytes, read.bytes.get() + index * block_bytes_}, 0};
}

}  // namespace tidemark
