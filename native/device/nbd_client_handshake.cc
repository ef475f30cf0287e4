#include "device/nbd_client_handshake.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <vector>

#include "common/nbd_wire.h"

namespace tidemark {

namespace {

using nbd::Info;
using nbd::Option;
using nbd::OptionReply;

constexpr uint32_t kMaximumReplyBytes = 64 * 1024;
constexpr std::string_view kAllocation = "base:allocation";

Status broken(const char* what) {
  return {ErrorCode::kIo, std::string("the server breaks the NBD protocol: ") + what};
}

struct Reply {
  OptionReply type = OptionReply::kAck;
  std::vector<std::byte> payload;

  bool is_error() const noexcept { return (static_cast<uint32_t>(type) & 0x80000000U) != 0; }
};

// What the server says for people: printable, and not too much of it.
std::string quoted_text(const Reply& reply) {
  constexpr size_t kMaximumTextBytes = 200;
  std::string text;
  for (const std::byte byte : reply.payload) {
    const auto c = static_cast<char>(byte);
    if (text.size() < kMaximumTextBytes) text += c >= ' ' && c <= '~' ? c : '?';
  }
  return text.empty() ? text : " (it says: " + text + ")";
}

Status refusal(const Reply& reply) {
  const std::string text = quoted_text(reply);
  switch (reply.type) {
    case OptionReply::kErrorUnknown:
      return {ErrorCode::kNotFound, "the server has no such export" + text};
    case OptionReply::kErrorTlsRequired:
      return {ErrorCode::kUnsupported, "the server requires TLS" + text};
    case OptionReply::kErrorPolicy:
      return {ErrorCode::kIo, "the server does not permit it" + text};
    case OptionReply::kErrorShutdown:
      return {ErrorCode::kIo, "the server is shutting down" + text};
    default:
      return {ErrorCode::kIo, "the server refuses the export" + text};
  }
}

class Negotiation {
 public:
  Negotiation(NbdClientSocket& socket, const std::string& export_name)
      : socket_(socket), export_name_(export_name) {}

  Result<NbdExportDescription> run();

 private:
  Status greet();
  Status ask_structured_replies();
  Status ask_allocation_context();
  Status go(bool& is_unsupported);
  Status use_export_name();
  Status take_info(const Reply& reply);
  Status check() const;

  Status send_option(Option option, const std::string& payload);
  Status receive_reply(Option option, Reply& reply);
  std::string counted_name() const;

  NbdClientSocket& socket_;
  const std::string& export_name_;
  bool no_zeroes_ = false;
  bool has_export_info_ = false;
  NbdExportDescription description_;
};

template <typename Integer>
void append_be(std::string& to, Integer value) {
  char bytes[sizeof value];
  store_be(bytes, value);
  to.append(bytes, sizeof value);
}

Status Negotiation::greet() {
  nbd::Greeting greeting;
  if (Status status = socket_.receive_struct(greeting); !status.is_ok()) return status;
  if (greeting.server_magic != nbd::kServerMagic) return broken("this is no NBD server");
  if (greeting.option_magic != nbd::kOptionMagic ||
      (greeting.flags & nbd::kServerFixedNewstyle) == 0) {
    return {ErrorCode::kUnsupported, "the server does not speak NBD's fixed newstyle"};
  }
  no_zeroes_ = (greeting.flags & nbd::kServerNoZeroes) != 0;
  const nbd::be32 flags = nbd::kClientFixedNewstyle | (no_zeroes_ ? nbd::kClientNoZeroes : 0);
  return socket_.send_struct(flags);
}

Status Negotiation::send_option(Option option, const std::string& payload) {
  const nbd::OptionHeader header{nbd::kOptionMagic, static_cast<uint32_t>(option),
                                 static_cast<uint32_t>(payload.size())};
  std::string bytes(reinterpret_cast<const char*>(&header), sizeof header);
  bytes += payload;
  return socket_.send(std::as_bytes(std::span(bytes)));
}

Status Negotiation::receive_reply(Option option, Reply& reply) {
  nbd::OptionReplyHeader header;
  if (Status status = socket_.receive_struct(header); !status.is_ok()) return status;
  if (header.magic != nbd::kOptionReplyMagic || header.option != static_cast<uint32_t>(option)) {
    return broken("its reply belongs to no option");
  }
  if (header.length_bytes > kMaximumReplyBytes) return broken("its reply is too long");
  reply.type = static_cast<OptionReply>(uint32_t{header.type});
  reply.payload.resize(header.length_bytes);
  return socket_.receive(reply.payload);
}

Status Negotiation::ask_structured_replies() {
  if (Status status = send_option(Option::kStructuredReply, {}); !status.is_ok()) return status;
  Reply reply;
  if (Status status = receive_reply(Option::kStructuredReply, reply); !status.is_ok()) {
    return status;
  }
  if (reply.type == OptionReply::kErrorTlsRequired) return refusal(reply);
  description_.structured_replies = reply.type == OptionReply::kAck;
  return Status::ok();
}

std::string Negotiation::counted_name() const {
  std::string payload;
  append_be(payload, static_cast<uint32_t>(export_name_.size()));
  return payload + export_name_;
}

Status Negotiation::ask_allocation_context() {
  std::string payload = counted_name();
  append_be(payload, uint32_t{1});
  append_be(payload, static_cast<uint32_t>(kAllocation.size()));
  payload += kAllocation;
  if (Status status = send_option(Option::kSetMetaContext, payload); !status.is_ok()) return status;
  for (;;) {
    Reply reply;
    if (Status status = receive_reply(Option::kSetMetaContext, reply); !status.is_ok()) {
      return status;
    }
    if (reply.type == OptionReply::kAck) return Status::ok();
    if (reply.is_error()) {
      description_.allocation_context.reset();
      return Status::ok();
    }
    const std::string_view bytes(reinterpret_cast<const char*>(reply.payload.data()),
                                 reply.payload.size());
    if (reply.type != OptionReply::kMetaContext || bytes.size() < 4) return broken("meta context");
    if (bytes.substr(4) == kAllocation) {
      description_.allocation_context = load_be<uint32_t>(bytes.data());
    }
  }
}

Status Negotiation::take_info(const Reply& reply) {
  if (reply.payload.size() < 2) return broken("an information without a type");
  const auto type = static_cast<Info>(load_be<uint16_t>(reply.payload.data()));
  if (type == Info::kExport) {
    if (reply.payload.size() != sizeof(nbd::InfoExport)) return broken("INFO_EXPORT");
    const auto info = nbd::load_struct<nbd::InfoExport>(reply.payload.data());
    description_.size_bytes = info.size_bytes;
    description_.transmission_flags = info.transmission_flags;
    has_export_info_ = true;
  } else if (type == Info::kBlockSize) {
    if (reply.payload.size() != sizeof(nbd::InfoBlockSize)) return broken("INFO_BLOCK_SIZE");
    const auto info = nbd::load_struct<nbd::InfoBlockSize>(reply.payload.data());
    description_.minimum_block_bytes = info.minimum_bytes;
    description_.preferred_block_bytes = info.preferred_bytes;
    description_.maximum_payload_bytes = info.maximum_bytes;
  }
  return Status::ok();
}

Status Negotiation::go(bool& is_unsupported) {
  std::string payload = counted_name();
  append_be(payload, uint16_t{1});
  append_be(payload, static_cast<uint16_t>(Info::kBlockSize));
  if (Status status = send_option(Option::kGo, payload); !status.is_ok()) return status;
  for (;;) {
    Reply reply;
    if (Status status = receive_reply(Option::kGo, reply); !status.is_ok()) return status;
    if (reply.type == OptionReply::kErrorUnsupported) {
      is_unsupported = true;
      return Status::ok();
    }
    if (reply.is_error()) return refusal(reply);
    if (reply.type == OptionReply::kAck) {
      return has_export_info_ ? Status::ok() : broken("GO without INFO_EXPORT");
    }
    if (reply.type != OptionReply::kInfo) return broken("an unknown reply to GO");
    if (Status status = take_info(reply); !status.is_ok()) return status;
  }
}

// It has no way to say no: the server just hangs up.
Status Negotiation::use_export_name() {
  if (Status status = send_option(Option::kExportName, export_name_); !status.is_ok()) {
    return status;
  }
  nbd::ExportNameReply reply;
  if (Status status = socket_.receive_struct(reply); !status.is_ok()) return status;
  description_.size_bytes = reply.size_bytes;
  description_.transmission_flags = reply.transmission_flags;
  if (no_zeroes_) return Status::ok();
  std::byte zeroes[nbd::kExportNameZeroes];
  return socket_.receive(zeroes);
}

Status Negotiation::check() const {
  const NbdExportDescription& it = description_;
  if (!it.has(nbd::kFlagHasFlags)) return broken("transmission flags");
  if (it.size_bytes > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    return broken("a size beyond 2^63");
  }
  const bool are_powers =
      std::has_single_bit(it.minimum_block_bytes) && std::has_single_bit(it.preferred_block_bytes);
  if (!are_powers || it.minimum_block_bytes > 64 * 1024 ||
      it.preferred_block_bytes < it.minimum_block_bytes ||
      it.maximum_payload_bytes < it.minimum_block_bytes ||
      it.maximum_payload_bytes % it.minimum_block_bytes != 0) {
    return broken("block sizes");
  }
  if (it.size_bytes % it.minimum_block_bytes != 0) {
    return {ErrorCode::kUnsupported,
            "the export's size is not a multiple of its minimum block size"};
  }
  return Status::ok();
}

Result<NbdExportDescription> Negotiation::run() {
  Status status = greet();
  if (status.is_ok()) status = ask_structured_replies();
  if (status.is_ok() && description_.structured_replies) status = ask_allocation_context();
  bool is_unsupported = false;
  if (status.is_ok()) status = go(is_unsupported);
  if (status.is_ok() && is_unsupported) status = use_export_name();
  // 2^32 - 1 stands for "no limit", whatever the block size.
  description_.maximum_payload_bytes =
      std::min(description_.maximum_payload_bytes, nbd::kMaximumPayloadBytes);
  if (status.is_ok()) status = check();
  if (!status.is_ok()) return status;
  return description_;
}

}  // namespace

Result<NbdExportDescription> negotiate_nbd(NbdClientSocket& socket,
                                           const std::string& export_name) {
  return Negotiation(socket, export_name).run();
}

}  // namespace tidemark
