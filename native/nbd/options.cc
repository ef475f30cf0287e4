#include "nbd/options.h"

#include "common/nbd_wire.h"
#include "nbd/export_info.h"

namespace tidemark::nbd {

OptionOutcome answer_option(const OptionRequest& request) {
  const auto option = static_cast<Option>(request.option);
  const bool needs_no_tls = option == Option::kStartTls || option == Option::kAbort;
  if (request.tls == TlsState::kRequired && !needs_no_tls) return answer_tls_required(request);
  switch (option) {
    case Option::kExportName:
      return answer_export_name(request);
    case Option::kAbort:
      return answer_abort(request);
    case Option::kList:
      return answer_list(request);
    case Option::kStructuredReply:
      return answer_structured_reply(request);
    case Option::kInfo:
      return answer_info(request);
    case Option::kGo:
      return answer_go(request);
    case Option::kListMetaContext:
      return answer_list_meta_context(request);
    case Option::kSetMetaContext:
      return answer_set_meta_context(request);
    case Option::kStartTls:
      return answer_start_tls(request);
    case Option::kExtendedHeaders:
      break;
  }
  request.replies().refuse(OptionReply::kErrorUnsupported, "this option is not supported");
  return OptionOutcome::kContinue;
}

// This option has no error reply: a name that cannot be served ends the connection.
OptionOutcome answer_export_name(const OptionRequest& request) {
  if (request.payload.size() > kMaximumStringBytes) return OptionOutcome::kClose;
  const std::string_view name(reinterpret_cast<const char*>(request.payload.data()),
                              request.payload.size());
  if (!request.exports.lease(name, request.session.served)) return OptionOutcome::kClose;
  keep_contexts_only_of(request.session, name);
  const ServedExport& served = *request.session.served.get();
  const ExportNameReply reply{served.device().size_bytes(),
                              transmission_flags(served, request.session.structured_replies)};
  request.output.append(reinterpret_cast<const char*>(&reply), sizeof reply);
  if (!request.session.no_zeroes) request.output.append(kExportNameZeroes, '\0');
  return OptionOutcome::kTransmission;
}

OptionOutcome answer_abort(const OptionRequest& request) {
  request.replies().acknowledge();
  return OptionOutcome::kClose;
}

OptionOutcome answer_list(const OptionRequest& request) {
  OptionReplies replies = request.replies();
  if (!request.payload.empty()) {
    replies.refuse(OptionReply::kErrorInvalid, "LIST takes no data");
    return OptionOutcome::kContinue;
  }
  for (const auto& served : request.exports.list()) {
    const NbdExport& entry = served->entry();
    replies.reply_struct(OptionReply::kServer, be32(static_cast<uint32_t>(entry.name.size())),
                         entry.name + entry.description);
  }
  replies.acknowledge();
  return OptionOutcome::kContinue;
}

OptionOutcome answer_structured_reply(const OptionRequest& request) {
  if (!request.payload.empty()) {
    request.replies().refuse(OptionReply::kErrorInvalid, "STRUCTURED_REPLY takes no data");
    return OptionOutcome::kContinue;
  }
  request.session.structured_replies = true;
  request.replies().acknowledge();
  return OptionOutcome::kContinue;
}

void keep_contexts_only_of(Session& session, std::string_view export_name) {
  if (session.context_export != export_name) session.contexts.clear();
}

}  // namespace tidemark::nbd
