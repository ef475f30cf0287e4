#include "layers/scratch.h"

#include "layers/scratch_index.h"

namespace tidemark {

Scratch::Scratch(std::shared_ptr<BlockDevice> data, States states, const ScratchIdentity& identity)
    : size_bytes_(identity.size_bytes),
      granularity_bytes_(identity.granularity_bytes),
      writes_zeroes_(!identity.folded_scratch.is_nil()),
      data_(std::move(data)),
      live_(std::move(states.live)),
      states_(std::move(states.words)),
      flusher_(data_, std::move(states.index)) {}

Scratch::~Scratch() {
  if (live_ && states_->dirty_page_count() == 0) live_->remove();
}

// What a process left that died is newer than what it flushed, and is flushed with the next.
Result<Scratch::States> Scratch::load(std::shared_ptr<BlockDevice> index,
                                      const ScratchIdentity& identity, const std::string& what,
                                      const std::string& live_path) {
  const uint64_t granules =
      (identity.size_bytes + identity.granularity_bytes - 1) / identity.granularity_bytes;
  States states;
  std::vector<LiveStates::Page> left;
  if (!live_path.empty()) {
    auto header = ScratchIndex::read_header(*index, what);
    if (!header.is_ok()) return header.status();
    auto pages = LiveStates::left_behind(live_path, header.value().scratch, granules);
    if (!pages.is_ok()) return pages.status();
    left = std::move(pages).value();
    auto live = LiveStates::create(live_path, header.value().scratch, granules);
    if (!live.is_ok()) return live.status();
    states.live = std::move(live).value();
  }
  auto words = states.live ? GranuleStates::create_in(states.live->fd(),
                                                      LiveStates::kWordsOffsetBytes, granules)
                           : GranuleStates::create(granules);
  if (!words.is_ok()) return words.status();
  states.words = std::move(words).value();
  auto loaded = ScratchIndex::load(std::move(index), identity, *states.words, what);
  if (!loaded.is_ok()) return loaded.status();
  states.index = std::move(loaded).value();
  for (const LiveStates::Page& page : left) {
    if (states.words->overlay_page(page.number, page.words.data())) continue;
    return Status{ErrorCode::kCorrupt, what + ": because " + live_path +
                                           " holds what no scratch has. Remove that file."};
  }
  Status status = states.live ? states.live->publish() : Status::ok();
  if (!status.is_ok()) return status;
  return states;
}

Result<std::unique_ptr<Scratch>> Scratch::open(std::shared_ptr<BlockDevice> data,
                                               std::shared_ptr<BlockDevice> index,
                                               const ScratchIdentity& identity,
                                               const std::string& what,
                                               const std::string& live_path) {
  auto states = load(std::move(index), identity, what, live_path);
  if (!states.is_ok()) return states.status();
  if (data->size_bytes() < identity.size_bytes) {
    return Status{ErrorCode::kTruncated,
                  what + ": because its data has " + std::to_string(data->size_bytes()) +
                      " bytes, the disk " + std::to_string(identity.size_bytes) +
                      ". Discard it and start from the recovery point again."};
  }
  return std::unique_ptr<Scratch>(
      new Scratch(std::move(data), std::move(states).value(), identity));
}

}  // namespace tidemark
