#include "layers/scratch.h"

namespace tidemark {

Scratch::Scratch(std::shared_ptr<BlockDevice> data, std::unique_ptr<GranuleStates> states,
                 std::unique_ptr<ScratchIndex> index, const ScratchIdentity& identity)
    : size_bytes_(identity.size_bytes),
      granularity_bytes_(identity.granularity_bytes),
      data_(std::move(data)),
      states_(std::move(states)),
      flusher_(data_, std::move(index)) {}

Result<std::unique_ptr<Scratch>> Scratch::open(std::shared_ptr<BlockDevice> data,
                                               std::shared_ptr<BlockDevice> index,
                                               const ScratchIdentity& identity,
                                               const std::string& what) {
  auto states = GranuleStates::create((identity.size_bytes + identity.granularity_bytes - 1) /
                                      identity.granularity_bytes);
  if (!states.is_ok()) return states.status();
  auto loaded = ScratchIndex::load(std::move(index), identity, *states.value(), what);
  if (!loaded.is_ok()) return loaded.status();
  if (data->size_bytes() < identity.size_bytes) {
    return Status{ErrorCode::kTruncated,
                  what + ": because its data has " + std::to_string(data->size_bytes()) +
                      " bytes, the disk " + std::to_string(identity.size_bytes) +
                      ". Discard it and start from the recovery point again."};
  }
  return std::unique_ptr<Scratch>(
      new Scratch(std::move(data), std::move(states).value(), std::move(loaded).value(), identity));
}

}  // namespace tidemark
