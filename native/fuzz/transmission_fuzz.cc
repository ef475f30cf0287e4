// Transmission: the bytes after a handshake of the target's own. The first byte
// chooses the style of replies and the disk.
#include "fuzz_server.h"
#include "fuzz_target.h"
#include "wire_sample.h"

namespace tidemark::fuzz {

namespace {

enum Style { kSimple, kStructured, kExtended, kStructuredWithContexts };

struct Choice {
  Style style;
  bool has_contexts;
  FuzzServer::Options options;
};

Choice choice_of(uint8_t byte) {
  Choice choice{static_cast<Style>(byte % 4), false, {}};
  choice.has_contexts = choice.style != kSimple && (byte & 4) != 0;
  choice.options.is_late = (byte & 8) != 0;
  choice.options.is_read_only = (byte & 48) == 48;
  choice.options.minimum_block_bytes = (byte & 192) == 192 ? 512 : 1;
  choice.options.piece_bytes = (byte & 96) == 96 ? 13 : 1 << 20;
  return choice;
}

bool is_extended(const Choice& choice) { return choice.style == kExtended; }

void negotiate(FuzzServer& server, const Choice& choice) {
  std::string bytes = be(3, 4);
  if (choice.style != kSimple) bytes += option(is_extended(choice) ? 11 : 8);
  if (choice.has_contexts) {
    bytes +=
        option(10, named("") + be(2, 4) + named("base:allocation") + named("qemu:dirty-bitmap:a"));
  }
  bytes += option(7, named("") + be(1, 2) + be(3, 2));
  server.send(bytes);
  const std::string replies = server.take_replies();
  demand(replies.size() > 20 && be_at(replies, replies.size() - 8, 4) == 1, "no GO");
}

void check_chunk(uint64_t type, const std::string& payload, bool extended) {
  switch (type) {
    case 0:
      return demand(payload.empty(), "an empty chunk with a payload");
    case 1:
      return demand(payload.size() > 8, "a data chunk without data");
    case 2:
      return demand(payload.size() == 12 && be_at(payload, 8, 4) > 0, "a malformed hole");
    case 5:
      return demand(!extended && payload.size() >= 12 && payload.size() % 8 == 4,
                    "a malformed block status");
    case 6:
      return demand(
          extended && payload.size() >= 24 && payload.size() == 8 + 16 * be_at(payload, 4, 4),
          "a malformed extended block status");
    case 0x8001:
      return demand(payload.size() >= 6 && be_at(payload, 0, 4) != 0 &&
                        payload.size() == 6 + be_at(payload, 4, 2),
                    "a malformed error");
    default:
      demand(false, "a chunk of unknown type");
  }
}

// How long the reply at `at` is. Simple replies have no data here: reads are
// answered in chunks.
size_t check_reply(const std::string& replies, size_t at, bool extended) {
  demand(replies.size() - at >= 16, "a reply is cut off");
  const uint64_t magic = be_at(replies, at, 4);
  if (!extended && magic == 0x67446698) return 16;
  demand(magic == (extended ? 0x6e8a278c : 0x668e33ef), "a reply's magic");
  const size_t header_bytes = extended ? 32 : 20;
  demand(replies.size() - at >= header_bytes, "a chunk's header is cut off");
  const uint64_t length = extended ? be_at(replies, at + 24, 8) : be_at(replies, at + 16, 4);
  demand(length <= replies.size() - at - header_bytes, "a chunk is cut off");
  demand(be_at(replies, at + 4, 2) <= 1, "a chunk's flags");
  check_chunk(be_at(replies, at + 6, 2), replies.substr(at + header_bytes, length), extended);
  return header_bytes + length;
}

}  // namespace

void fuzz_one(std::span<const std::byte> input) {
  if (input.empty()) return;
  const Choice choice = choice_of(static_cast<uint8_t>(input[0]));
  const auto rest = input.subspan(1);
  FuzzServer server(choice.options);
  negotiate(server, choice);
  server.send({reinterpret_cast<const char*>(rest.data()), rest.size()});
  server.finish();
  const std::string replies = server.take_all();
  if (choice.style == kSimple) return;
  for (size_t at = 0; at < replies.size();) at += check_reply(replies, at, is_extended(choice));
}

std::string sample(std::mt19937_64& random) {
  std::string bytes(1, static_cast<char>(random()));
  const bool extended = is_extended(choice_of(static_cast<uint8_t>(bytes[0])));
  for (uint64_t count = 1 + random() % 20; count > 0; --count) {
    bytes += random_request(random, extended);
  }
  return bytes;
}

}  // namespace tidemark::fuzz
