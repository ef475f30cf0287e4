#include "common/nbd_wire.h"
#include "nbd/options.h"

namespace tidemark::nbd {

OptionOutcome answer_start_tls(const OptionRequest& request) {
  OptionReplies replies = request.replies();
  if (!request.payload.empty()) {
    replies.refuse(OptionReply::kErrorInvalid, "STARTTLS takes no data");
  } else if (request.tls == TlsState::kActive) {
    replies.refuse(OptionReply::kErrorInvalid, "TLS is active already");
  } else if (request.tls == TlsState::kNone) {
    replies.refuse(OptionReply::kErrorPolicy, "this server is set up without TLS");
  } else {
    replies.acknowledge();
    return OptionOutcome::kStartTls;
  }
  return OptionOutcome::kContinue;
}

// EXPORT_NAME has no error reply.
OptionOutcome answer_tls_required(const OptionRequest& request) {
  if (static_cast<Option>(request.option) == Option::kExportName) return OptionOutcome::kClose;
  request.replies().refuse(OptionReply::kErrorTlsRequired, "this server requires TLS: STARTTLS");
  return OptionOutcome::kContinue;
}

}  // namespace tidemark::nbd
