// The handshake: all that a client says after the greeting, and the requests that
// may follow. The first byte says how the bytes are cut.
#include "fuzz_server.h"
#include "fuzz_target.h"
#include "wire_sample.h"

namespace tidemark::fuzz {

namespace {

constexpr uint64_t kOptionReplyMagic = 0x0003e889045565a9;
constexpr size_t kGreetingBytes = 18;
constexpr size_t kOptionReplyBytes = 20;

// The greeting, then whole option replies up to where transmission may begin.
void check_replies(const std::string& replies) {
  demand(replies.starts_with("NBDMAGICIHAVEOPT"), "no greeting");
  size_t at = kGreetingBytes;
  while (at + kOptionReplyBytes <= replies.size()) {
    if (be_at(replies, at, 8) != kOptionReplyMagic) return;
    const uint64_t type = be_at(replies, at + 12, 4);
    const uint64_t length = be_at(replies, at + 16, 4);
    demand(length <= replies.size() - at - kOptionReplyBytes, "an option reply is cut off");
    demand((type >= 1 && type <= 4) || (type >= 0x80000001 && type <= 0x8000000a),
           "an option reply of an unknown type");
    at += kOptionReplyBytes + length;
  }
}

std::string random_name(std::mt19937_64& random) {
  switch (random() % 6) {
    case 0:
      return "disk";
    case 1:
      return "\xc3\xa9";
    case 2:
      return std::string(random() % 5000, 'n');
    case 3:
      return std::string(random() % 8, static_cast<char>(random()));
    default:
      return {};
  }
}

std::string random_option(std::mt19937_64& random) {
  const uint32_t number = random() % 12 == 0 ? static_cast<uint32_t>(random()) : random() % 12;
  const std::string name = random_name(random);
  std::string payload;
  if (number == 1) payload = name;
  if (number == 6 || number == 7) {
    payload = named(name);
    const uint64_t count = random() % 5;
    payload += be(count, 2);
    for (uint64_t i = 0; i < count; ++i) payload += be(i, 2);
  }
  if (number == 9 || number == 10) {
    payload = named(name) + be(3, 4) + named("base:allocation") + named("qemu:dirty-bitmap:") +
              named("qemu:dirty-bitmap:a");
  }
  return option(number, payload);
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
