// INFO and GO: the same question, but a GO that succeeds starts transmission.

#include "nbd/byte_reader.h"
#include "nbd/export_info.h"
#include "nbd/options.h"
#include "nbd/protocol_string.h"

namespace tidemark::nbd {

namespace {

struct InfoQuery {
  std::string_view name;
  bool wants_name = false;
  bool wants_description = false;
  bool wants_block_size = false;
};

// kAck when `query` is filled, else the error to answer.
OptionReply parse_query(std::span<const std::byte> payload, InfoQuery& query) {
  ByteReader reader(payload);
  const auto name_bytes = reader.take<uint32_t>();
  if (reader.is_ok() && name_bytes > kMaximumStringBytes && name_bytes <= reader.rest_bytes()) {
    return OptionReply::kErrorTooBig;
  }
  query.name = reader.take_string(name_bytes);
  const auto count = reader.take<uint16_t>();
  if (!is_protocol_string(query.name)) return OptionReply::kErrorInvalid;
  if (!reader.is_ok() || reader.rest_bytes() != size_t{count} * sizeof(uint16_t)) {
    return OptionReply::kErrorInvalid;
  }
  for (uint32_t i = 0; i < count; ++i) {
    const auto info = static_cast<Info>(reader.take<uint16_t>());
    query.wants_name |= info == Info::kName;
    query.wants_description |= info == Info::kDescription;
    query.wants_block_size |= info == Info::kBlockSize;
  }
  return OptionReply::kAck;
}

void reply_text(OptionReplies& replies, Info info, std::string_view text) {
  replies.reply_struct(OptionReply::kInfo, be16(static_cast<uint16_t>(info)), text);
}

void describe(const OptionRequest& request, const InfoQuery& query, const ServedExport& served) {
  OptionReplies replies = request.replies();
  const InfoBlockSize block_size = block_size_info(served);
  if (query.wants_name) reply_text(replies, Info::kName, served.entry().name);
  if (query.wants_description && !served.entry().description.empty()) {
    reply_text(replies, Info::kDescription, served.entry().description);
  }
  if (query.wants_block_size || block_size.minimum_bytes > 1) {
    replies.reply_struct(OptionReply::kInfo, block_size);
  }
  replies.reply_struct(OptionReply::kInfo, InfoExport{static_cast<uint16_t>(Info::kExport),
                                                      served.device().size_bytes(),
                                                      transmission_flags(served, request.session)});
  replies.acknowledge();
}

OptionOutcome refuse(const OptionRequest& request, OptionReply error) {
  std::string_view text = "the lengths contradict each other, or the name is no UTF-8";
  if (error == OptionReply::kErrorTooBig) text = "export names have at most 4096 bytes";
  if (error == OptionReply::kErrorUnknown) text = "there is no export of this name";
  request.replies().refuse(error, text);
  return OptionOutcome::kContinue;
}

// Says it as well, so that the client need not ask again.
OptionOutcome require_block_size(const OptionRequest& request, const ServedExport& served) {
  request.replies().reply_struct(OptionReply::kInfo, block_size_info(served));
  request.replies().refuse(OptionReply::kErrorBlockSizeRequired, "ask for the block size as well");
  return OptionOutcome::kContinue;
}

}  // namespace

OptionOutcome answer_info(const OptionRequest& request) {
  InfoQuery query;
  const OptionReply parsed = parse_query(request.payload, query);
  if (parsed != OptionReply::kAck) return refuse(request, parsed);
  const auto served = request.exports.find(query.name);
  if (served == nullptr) return refuse(request, OptionReply::kErrorUnknown);
  if (!query.wants_block_size && served->device().traits().minimum_block_bytes > 1) {
    return require_block_size(request, *served);
  }
  describe(request, query, *served);
  return OptionOutcome::kContinue;
}

// A client that did not ask for the block size is told nevertheless and let in:
// what it then sends unaligned is refused, and kernels never send that.
OptionOutcome answer_go(const OptionRequest& request) {
  InfoQuery query;
  const OptionReply parsed = parse_query(request.payload, query);
  if (parsed != OptionReply::kAck) return refuse(request, parsed);
  if (!request.exports.lease(query.name, request.session.served)) {
    return refuse(request, OptionReply::kErrorUnknown);
  }
  keep_contexts_only_of(request.session, query.name);
  describe(request, query, *request.session.served.get());
  return OptionOutcome::kTransmission;
}

}  // namespace tidemark::nbd
