// The handlers of the handshake's options, one function each.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "nbd/export_registry.h"
#include "nbd/option_reply.h"
#include "nbd/session.h"

namespace tidemark::nbd {

enum class OptionOutcome { kContinue, kStartTls, kTransmission, kClose };

struct OptionRequest {
  uint32_t option;
  std::span<const std::byte> payload;  // whole, at most kMaximumOptionBytes
  const ExportRegistry& exports;
  TlsState tls;
  Session& session;
  std::string& output;  // replies are appended

  OptionReplies replies() const { return OptionReplies(option, output); }
};

// Answers one option, unknown ones included.
OptionOutcome answer_option(const OptionRequest& request);

OptionOutcome answer_export_name(const OptionRequest& request);
OptionOutcome answer_abort(const OptionRequest& request);
OptionOutcome answer_list(const OptionRequest& request);
OptionOutcome answer_start_tls(const OptionRequest& request);
// Before TLS is active: what a server that requires it answers to all but STARTTLS and ABORT.
OptionOutcome answer_tls_required(const OptionRequest& request);
OptionOutcome answer_structured_reply(const OptionRequest& request);
OptionOutcome answer_info(const OptionRequest& request);
OptionOutcome answer_go(const OptionRequest& request);
OptionOutcome answer_list_meta_context(const OptionRequest& request);
OptionOutcome answer_set_meta_context(const OptionRequest& request);

// Meta contexts are bound to the export they were chosen for.
void keep_contexts_only_of(Session& session, std::string_view export_name);

}  // namespace tidemark::nbd
