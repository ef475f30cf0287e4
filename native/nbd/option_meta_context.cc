// LIST_META_CONTEXT and SET_META_CONTEXT.
#include <vector>

#include "nbd/byte_reader.h"
#include "nbd/options.h"
#include "nbd/protocol_string.h"

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
  if (!is_protocol_string(query.export_name)) return OptionReply::kErrorInvalid;
  const auto count = reader.take<uint32_t>();
  for (uint32_t i = 0; i < count && reader.is_ok(); ++i) {
    query.queries.push_back(reader.take_string(reader.take<uint32_t>()));
  }
  const bool is_whole = reader.is_ok() && reader.rest_bytes() == 0;
  return is_whole ? OptionReply::kAck : OptionReply::kErrorInvalid;
}

struct Choice {
  MetaContext context;
  std::string shown_name;  // as the client asked for it
};

// The query that chooses `name`; null: none. Queries are whole names, the device's
// or another that it resolves to one; in LIST also "base:" and "qemu:dirty-bitmap:",
// which stand for all that begin with them.
const std::string_view* find_query(const ContextQuery& query,
                                   const std::vector<std::string>& resolved, std::string_view name,
                                   bool is_list) {
  for (size_t i = 0; i < query.queries.size(); ++i) {
    const std::string_view wanted = query.queries[i];
    const bool is_wildcard = is_list && wanted.ends_with(':') && name.starts_with(wanted);
    if (is_wildcard || resolved[i] == name) return &query.queries[i];
  }
  return nullptr;
}

// Each context once, whatever is asked: that bounds the replies of BLOCK_STATUS.
std::vector<Choice> choose(const ContextQuery& query, const BlockDevice& device, bool is_list) {
  std::vector<std::string> resolved;
  for (const std::string_view wanted : query.queries) {
    resolved.push_back(device.resolve_context(wanted));
  }
  std::vector<Choice> chosen;
  uint32_t id = 0;
  for (std::string& name : device.extent_contexts()) {
    ++id;
    const std::string_view* wanted = find_query(query, resolved, name, is_list);
    if (wanted == nullptr && !(is_list && query.queries.empty())) continue;
    const bool is_whole_name = wanted != nullptr && !wanted->ends_with(':');
    std::string shown = is_whole_name ? std::string(*wanted) : name;
    chosen.push_back({MetaContext{id, std::move(name)}, std::move(shown)});
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
  OptionReplies replies = request.replies();
  for (Choice& choice : choose(query, served->device(), is_list)) {
    replies.reply_struct(OptionReply::kMetaContext, be32(is_list ? 0 : choice.context.id),
                         choice.shown_name);
    if (!is_list) session.contexts.push_back(std::move(choice.context));
  }
  replies.acknowledge();
  if (!is_list) session.context_export = query.export_name;
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
