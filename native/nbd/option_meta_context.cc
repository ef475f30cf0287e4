// LIST_META_CONTEXT and SET_META_CONTEXT.
#include <vector>

#include "nbd/byte_reader.h"
#include "nbd/options.h"

namespace tidemark::nbd {

namespace {

struct ContextQuery {
  std::string_view export_name;
  std::vector<std::string_view> queries;
};

OptionReply parse_query(std::span<const std::byte> payload, ContextQuery& query) {
  ByteReader reader(payload);
  const auto name_bytes = reader.take<uint32_t>();
  if (reader.is_ok() && name_bytes > kMaximumStringBytes && name_bytes <= reader.rest_bytes()) {
    return OptionReply::kErrorTooBig;
  }
  query.export_name = reader.take_string(name_bytes);
  const auto count = reader.take<uint32_t>();
  for (uint32_t i = 0; i < count && reader.is_ok(); ++i) {
    query.queries.push_back(reader.take_string(reader.take<uint32_t>()));
  }
  const bool is_whole = reader.is_ok() && reader.rest_bytes() == 0;
  return is_whole ? OptionReply::kAck : OptionReply::kErrorInvalid;
}

// "base:" and "qemu:dirty-bitmap:" stand for all that begin with them, in LIST
// only: SET chooses by whole names.
bool is_match(std::string_view query, std::string_view name, bool wildcards) {
  if (query == name) return true;
  return wildcards && query.ends_with(':') && name.starts_with(query);
}

std::vector<MetaContext> choose(const ContextQuery& query, const ServedExport& served,
                                bool is_list) {
  std::vector<MetaContext> chosen;
  uint32_t id = 0;
  for (std::string& name : served.device().extent_contexts()) {
    ++id;
    bool is_chosen = is_list && query.queries.empty();
    for (const std::string_view wanted : query.queries) {
      is_chosen = is_chosen || is_match(wanted, name, is_list);
    }
    if (is_chosen) chosen.push_back(MetaContext{id, std::move(name)});
  }
  return chosen;
}

OptionOutcome refuse(const OptionRequest& request, OptionReply error, std::string_view text) {
  request.replies().refuse(error, text);
  return OptionOutcome::kContinue;
}

OptionOutcome answer(const OptionRequest& request, bool is_list) {
  Session& session = request.session;
  // The specification: a SET replaces the former set even when it fails.
  if (!is_list) session.contexts.clear();
  if (!session.structured_replies) {
    return refuse(request, OptionReply::kErrorInvalid, "negotiate structured replies first");
  }
  ContextQuery query;
  const OptionReply parsed = parse_query(request.payload, query);
  if (parsed != OptionReply::kAck) return refuse(request, parsed, "malformed context query");
  const auto served = request.exports.find(query.export_name);
  if (served == nullptr) {
    return refuse(request, OptionReply::kErrorUnknown, "there is no export of this name");
  }
  std::vector<MetaContext> chosen = choose(query, *served, is_list);
  OptionReplies replies = request.replies();
  for (const MetaContext& context : chosen) {
    replies.reply_struct(OptionReply::kMetaContext, be32(is_list ? 0 : context.id), context.name);
  }
  replies.acknowledge();
  if (!is_list) {
    session.context_export = query.export_name;
    session.contexts = std::move(chosen);
  }
  return OptionOutcome::kContinue;
}

}  // namespace

OptionOutcome answer_list_meta_context(const OptionRequest& request) {
  return answer(request, true);
}

OptionOutcome answer_set_meta_context(const OptionRequest& request) {
  return answer(request, false);
}

}  // namespace tidemark::nbd
