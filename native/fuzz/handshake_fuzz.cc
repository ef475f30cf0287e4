// The handshake: all that a client says after the greeting, and the requests that
// may follow. The first byte says how the bytes are cut.
#include "fuzz_server.h"
#include "fuzz_target.h"
#include "option_reply_check.h"
#include "wire_sample.h"

namespace tidemark::fuzz {

namespace {

// The greeting, then whole option replies up to where transmission may begin.
void check_replies(const std::string& replies) {
  demand(replies.starts_with("NBDMAGICIHAVEOPT"), "no greeting");
  check_option_replies(replies, kGreetingBytes, [](const OptionReplySeen&) { return true; });
}

}  // namespace

void fuzz_one(std::span<const std::byte> input) {
  if (input.empty()) return;
  FuzzServer::Options options;
  options.piece_bytes = static_cast<size_t>(input[0]) % 4 == 0 ? 7 : 1 << 20;
  options.is_late = static_cast<size_t>(input[0]) % 8 > 4;
  const auto rest = input.subspan(1);
  FuzzServer server(options);
  server.send({reinterpret_cast<const char*>(rest.data()), rest.size()});
  server.finish();
  check_replies(server.take_all());
}

std::string sample(std::mt19937_64& random) {
  std::string bytes(1, static_cast<char>(random()));
  bytes += be(random() % 8 == 0 ? random() : 1 + random() % 3, 4);
  for (uint64_t count = random() % 8; count > 0; --count) bytes += random_option(random);
  const bool is_extended = random() % 2 == 0;
  if (is_extended) bytes += option(11);
  bytes += option(7, named("") + be(0, 2));
  for (uint64_t count = random() % 4; count > 0; --count) {
    bytes += random_request(random, is_extended);
  }
  return bytes;
}

}  // namespace tidemark::fuzz
