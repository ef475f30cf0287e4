// BLOCK_STATUS: answered at once from memory, or by the extent worker.
#include <algorithm>

#include "nbd/block_status.h"
#include "nbd/transmission.h"

namespace tidemark::nbd {

void Transmission::answer_block_status(const ClientRequest& request,
                                       std::span<const MetaContext* const> contexts) {
  if (may_take_a_while(contexts)) return submit_status_query(request, contexts);
  BlockStatusWriter writer(replies_.format(), channel_.output);
  std::vector<DeviceExtent>& extents = channel_.loop.extents;
  for (const MetaContext* const& context : contexts) {
    const bool is_last = &context == &contexts.back();
    if (!collect_extents(device_, *context, request, extents) ||
        !writer.write(request, context->id, extents, is_last)) {
      return answer_no_extents(request);
    }
  }
  channel_.loop.requests_total.increment();
}

// What changed is in memory, always.
bool Transmission::may_take_a_while(std::span<const MetaContext* const> contexts) const noexcept {
  return !has_cheap_extents_ &&
         std::any_of(contexts.begin(), contexts.end(),
                     [](const MetaContext* context) { return context->name == "base:allocation"; });
}

void Transmission::submit_status_query(const ClientRequest& request,
                                       std::span<const MetaContext* const> contexts) {
  NbdRequest& query = channel_.loop.requests.acquire();
  query.owner = this;
  query.command = request.command;
  query.error = 0;
  query.status = std::make_unique<StatusQuery>(
      StatusQuery{device_, request, {contexts.begin(), contexts.end()}});
  ++in_flight_count_;
  channel_.loop.extent_worker.post(query);
}

void Transmission::finish_status_query(NbdRequest& request) {
  const std::unique_ptr<StatusQuery> query = std::move(request.status);
  if (is_dropping_) return;
  BlockStatusWriter writer(replies_.format(), channel_.output);
  for (size_t i = 0; i < query->extents.size(); ++i) {
    const bool is_last = i + 1 == query->contexts.size();
    if (!writer.write(query->request, query->contexts[i]->id, query->extents[i], is_last)) {
      return answer_no_extents(query->request);
    }
  }
  if (query->extents.size() < query->contexts.size()) return answer_no_extents(query->request);
  channel_.loop.requests_total.increment();
}

void Transmission::answer_no_extents(const ClientRequest& request) {
  answer_error(request, {WireError::kIo, "the disk's extents cannot be read"});
}

}  // namespace tidemark::nbd
