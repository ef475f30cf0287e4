// The handshake, byte by byte as the NBD specification writes it.
#include <doctest/doctest.h>

#include <random>

#include "nbd_fixture.h"

using namespace nbd_test;

namespace {

constexpr uint16_t kWritableFlags = 1 | 4 | 8 | 32 | 64 | 256 | 2048;

const OptionAnswer* find_info(const std::vector<OptionAnswer>& answers, uint16_t info) {
  for (const OptionAnswer& answer : answers) {
    if (answer.type == REP_INFO && number(answer.payload, 0, 2) == info) return &answer;
  }
  return nullptr;
}

void send_random_bytes(RawClient& client, std::mt19937_64& random, size_t length) {
  std::string bytes;
  for (size_t i = 0; i < length; ++i) bytes += static_cast<char>(random());
  client.send(bytes);
}

}  // namespace

TEST_CASE("EXPORT_NAME gives size, flags and 124 zeroes unless NO_ZEROES") {
  ServedDisk disk;
  disk.serve();
  for (const bool no_zeroes : {false, true}) {
    RawClient client = disk.connect();
    client.greet(no_zeroes ? 3 : 1);
    client.send(option(OPT_EXPORT_NAME));
    const std::string reply = client.receive(no_zeroes ? 10 : 134);
    CHECK(number(reply, 0, 8) == ServedDisk::kSizeBytes);
    CHECK(number(reply, 8, 2) == kWritableFlags);
    if (!no_zeroes) CHECK(reply.substr(10) == std::string(124, '\0'));
    CHECK(client.call(0, CMD_READ, 0, 100).error == 0);
  }
}

TEST_CASE("A client without fixed newstyle may say EXPORT_NAME and nothing else") {
  ServedDisk disk;
  disk.serve();
  RawClient old = disk.connect();
  old.greet(0);
  old.send(option(OPT_EXPORT_NAME));
  CHECK(old.receive(134).size() == 134);
  RawClient confused = disk.connect();
  confused.greet(0);
  confused.send(option(OPT_LIST));
  CHECK(confused.is_ended());
}

TEST_CASE("Unknown client flags, a wrong option magic and an unknown EXPORT_NAME drop the client") {
  ServedDisk disk;
  disk.serve();
  for (const uint32_t flags : {4U, 7U, 0x80000000U, 0xffffffffU}) {
    RawClient client = disk.connect();
    client.greet(flags);
    CHECK(client.is_ended());
  }
  RawClient wrong_magic = disk.connect();
  wrong_magic.greet();
  wrong_magic.send("IHAVEOPS" + u32(OPT_LIST) + u32(0));
  CHECK(wrong_magic.is_ended());
  RawClient unknown = disk.connect();
  unknown.greet();
  unknown.send(option(OPT_EXPORT_NAME, "nothing"));
  CHECK(unknown.is_ended());
  check_alive(disk);
}

TEST_CASE("Options without data refuse data, unknown options are unsupported, all go on") {
  ServedDisk disk;
  disk.serve();
  RawClient client = disk.connect();
  client.greet();
  CHECK(client.ask(OPT_LIST, "x").type == REP_ERR_INVALID);
  CHECK(client.ask(OPT_STRUCTURED_REPLY, "x").type == REP_ERR_INVALID);
  for (const uint32_t unknown : {0U, 4U, 12U, 0x7fffffffU, 0xffffffffU}) {
    const OptionAnswer answer = client.ask(unknown, "payload");
    CHECK(answer.type == REP_ERR_UNSUP);
    CHECK(answer.option == unknown);
  }
  CHECK(client.ask(OPT_STARTTLS).type == REP_ERR_POLICY);
  CHECK(client.ask(OPT_EXTENDED_HEADERS).type == REP_ERR_UNSUP);
  CHECK(client.ask_all(OPT_GO, info_payload("")).back().type == REP_ACK);
}

TEST_CASE("ABORT is acknowledged and ends the connection") {
  ServedDisk disk;
  disk.serve();
  RawClient client = disk.connect();
  client.greet();
  CHECK(client.ask(OPT_ABORT).type == REP_ACK);
  CHECK(client.is_ended());
}

TEST_CASE("LIST names every export with its description") {
  ServedDisk disk;
  disk.serve("zebra \xf0\x9f\xa6\x93");
  REQUIRE(disk.server->add_export({"", "", false, disk.device}).is_ok());
  RawClient client = disk.connect();
  client.greet();
  const auto answers = client.ask_all(OPT_LIST);
  REQUIRE(answers.size() == 3);
  CHECK(answers[0].payload == u32(0));
  CHECK(answers[1].type == REP_SERVER);
  CHECK(answers[1].payload == u32(10) + "zebra \xf0\x9f\xa6\x93" + "a scripted disk");
  CHECK(answers[2].type == REP_ACK);
}

TEST_CASE("INFO answers what is asked and stays; GO the same and starts transmission") {
  ServedDisk disk;
  disk.serve("disk");
  RawClient client = disk.connect();
  client.greet();
  for (const uint32_t asked : {OPT_INFO, OPT_INFO, OPT_GO}) {
    const auto answers =
        client.ask_all(asked, info_payload("disk", u16(1) + u16(2) + u16(3) + u16(77)));
    REQUIRE(answers.size() == 5);
    REQUIRE(answers.back().type == REP_ACK);
    CHECK(find_info(answers, 0)->payload ==
          u16(0) + u64(ServedDisk::kSizeBytes) + u16(kWritableFlags));
    CHECK(find_info(answers, 1)->payload == u16(1) + "disk");
    CHECK(find_info(answers, 2)->payload == u16(2) + "a scripted disk");
    CHECK(find_info(answers, 3)->payload == u16(3) + u32(1) + u32(4096) + u32(32 << 20));
  }
  CHECK(client.call(0, CMD_READ, 0, 1).error == 0);
  RawClient brief = disk.connect();
  brief.greet();
  CHECK(brief.ask_all(OPT_GO, info_payload("disk")).size() == 2);
}

TEST_CASE("An unknown export fails INFO and GO, and a later GO succeeds") {
  ServedDisk disk;
  disk.serve("disk");
  RawClient client = disk.connect();
  client.greet();
  CHECK(client.ask(OPT_INFO, info_payload("")).type == REP_ERR_UNKNOWN);
  CHECK(client.ask(OPT_GO, info_payload("disk2")).type == REP_ERR_UNKNOWN);
  CHECK(client.ask(OPT_GO, info_payload("dis")).type == REP_ERR_UNKNOWN);
  CHECK(client.ask_all(OPT_GO, info_payload("disk")).back().type == REP_ACK);
}

TEST_CASE("A minimum block size must be asked for by INFO and is told by GO unasked") {
  ServedDisk disk;
  disk.device->edit_traits().minimum_block_bytes = 4096;
  disk.serve();
  RawClient client = disk.connect();
  client.greet();
  CHECK(client.ask(OPT_INFO, info_payload("")).type == REP_ERR_BLOCK_SIZE_REQD);
  CHECK(client.ask_all(OPT_INFO, info_payload("", u16(3))).back().type == REP_ACK);
  const auto answers = client.ask_all(OPT_GO, info_payload(""));
  REQUIRE(find_info(answers, 3) != nullptr);
  CHECK(number(find_info(answers, 3)->payload, 2, 4) == 4096);
}

TEST_CASE("Flags tell the truth about the device") {
  ServedDisk disk;
  DeviceTraits& traits = disk.device->edit_traits();
  traits.can_flush = false;
  traits.rotational = true;
  disk.serve();
  REQUIRE(disk.server->add_export({"ro", "", true, disk.device}).is_ok());
  CHECK(disk.connect().go("") == (1 | 16 | 32 | 64 | 256 | 2048));
  CHECK(disk.connect().go("", true) == (1 | 16 | 32 | 64 | 128 | 256 | 2048));
  CHECK(disk.connect().go("ro") == (1 | 2 | 16 | 256));
}

TEST_CASE("Meta contexts need structured replies") {
  ServedDisk disk;
  disk.serve();
  RawClient client = disk.connect();
  client.greet();
  const std::string query = context_payload("", {"base:allocation"});
  CHECK(client.ask(OPT_LIST_META_CONTEXT, query).type == REP_ERR_INVALID);
  CHECK(client.ask(OPT_SET_META_CONTEXT, query).type == REP_ERR_INVALID);
  CHECK(client.ask(OPT_STRUCTURED_REPLY).type == REP_ACK);
  CHECK(client.ask_all(OPT_SET_META_CONTEXT, query).size() == 2);
}

TEST_CASE("LIST_META_CONTEXT knows wildcards, SET_META_CONTEXT only whole names") {
  ServedDisk disk;
  disk.device->set_extents("base:allocation", {{4096, 0}});
  disk.device->set_extents("qemu:dirty-bitmap:a", {{4096, 0}});
  disk.device->set_extents("qemu:dirty-bitmap:b", {{4096, 1}});
  disk.serve();
  RawClient client = disk.connect();
  client.greet();
  client.ask(OPT_STRUCTURED_REPLY);
  const auto count = [&](uint32_t asked, std::initializer_list<std::string> queries) {
    return client.ask_all(asked, context_payload("", queries)).size() - 1;
  };
  CHECK(count(OPT_LIST_META_CONTEXT, {}) == 3);
  CHECK(count(OPT_LIST_META_CONTEXT, {"base:"}) == 1);
  CHECK(count(OPT_LIST_META_CONTEXT, {"qemu:"}) == 2);
  CHECK(count(OPT_LIST_META_CONTEXT, {"qemu:dirty-bitmap:"}) == 2);
  CHECK(count(OPT_LIST_META_CONTEXT, {"base:", "base:allocation", "qemu:"}) == 3);
  CHECK(count(OPT_LIST_META_CONTEXT, {"other:", "qemu:allocation-depth", ""}) == 0);
  CHECK(count(OPT_SET_META_CONTEXT, {"base:", "qemu:dirty-bitmap:"}) == 0);
  CHECK(count(OPT_SET_META_CONTEXT, {}) == 0);
  const auto set = client.ask_all(
      OPT_SET_META_CONTEXT,
      context_payload("", {"qemu:dirty-bitmap:b", "base:allocation", "base:allocation", "x:y"}));
  REQUIRE(set.size() == 3);
  CHECK(set[0].payload.substr(4) == "base:allocation");
  CHECK(set[1].payload.substr(4) == "qemu:dirty-bitmap:b");
  CHECK(number(set[0].payload, 0, 4) != number(set[1].payload, 0, 4));
}

TEST_CASE("Contexts are bound to the export they were chosen for, and a failed SET clears them") {
  ServedDisk disk;
  disk.serve("one");
  REQUIRE(disk.server->add_export({"two", "", false, disk.device}).is_ok());
  const auto status_error = [&](const std::string& second_set, const std::string& go_name) {
    RawClient client = disk.connect();
    client.greet();
    client.ask(OPT_STRUCTURED_REPLY);
    client.ask_all(OPT_SET_META_CONTEXT, context_payload("one", {"base:allocation"}));
    if (!second_set.empty()) client.ask_all(OPT_SET_META_CONTEXT, second_set);
    CHECK(client.ask_all(OPT_GO, info_payload(go_name)).back().type == REP_ACK);
    return client.call(0, CMD_BLOCK_STATUS, 0, 4096).error;
  };
  CHECK(status_error({}, "one") == 0);
  CHECK(status_error({}, "two") == 22);
  CHECK(status_error(context_payload("none", {"base:allocation"}), "one") == 22);
  CHECK(status_error("malformed", "one") == 22);
}

TEST_CASE("Options in any order are legal") {
  ServedDisk disk;
  disk.serve();
  std::mt19937_64 random(1);
  for (int round = 0; round < 200; ++round) {
    RawClient client = disk.connect();
    client.greet();
    for (int i = 0; i < 8; ++i) {
      switch (random() % 6) {
        case 0:
          CHECK(client.ask_all(OPT_LIST).back().type == REP_ACK);
          break;
        case 1:
          CHECK(client.ask_all(OPT_INFO, info_payload("", u16(3))).back().type == REP_ACK);
          break;
        case 2:
          CHECK(client.ask(OPT_STRUCTURED_REPLY).type == REP_ACK);
          break;
        case 3:
          CHECK(client.ask(OPT_GO, info_payload("none")).type == REP_ERR_UNKNOWN);
          break;
        case 4:
          client.ask_all(OPT_SET_META_CONTEXT, context_payload("", {"base:allocation"}));
          break;
        default:
          CHECK(client.ask(99, std::string(random() % 300, 'x')).type == REP_ERR_UNSUP);
      }
    }
    REQUIRE(client.ask_all(OPT_GO, info_payload("")).back().type == REP_ACK);
    CHECK(client.call(0, CMD_FLUSH, 0, 0).error == 0);
  }
}

// CVE-2022-26495, CVE-2017-15118, CVE-2017-15119, CVE-2020-10761
TEST_CASE("Names of any length are answered or end the connection, never the server") {
  ServedDisk disk;
  disk.serve();
  const auto go_answer = [&](size_t length) {
    RawClient client = disk.connect();
    client.greet();
    return client.ask(OPT_GO, info_payload(std::string(length, 'n'))).type;
  };
  CHECK(go_answer(4095) == REP_ERR_UNKNOWN);
  CHECK(go_answer(4096) == REP_ERR_UNKNOWN);
  CHECK(go_answer(4097) == REP_ERR_TOO_BIG);
  const std::string longest(4096, 'n');
  REQUIRE(disk.server->add_export({longest, longest, false, disk.device}).is_ok());
  CHECK(disk.connect().go(longest) != 0);
  CHECK_FALSE(disk.server->add_export({longest + "n", "", false, disk.device}).is_ok());

  for (const size_t length : {4095, 4097, 65536}) {
    RawClient client = disk.connect();
    client.greet();
    client.send(option(OPT_EXPORT_NAME, std::string(length, 'n')));
    CHECK(client.is_ended());
  }
  check_alive(disk);
}

// CVE-2022-26495, CVE-2017-15119
TEST_CASE("Option lengths beyond 64 KiB drop the client before anything is allocated") {
  ServedDisk disk;
  disk.serve();
  for (const uint32_t asked : {1U, 3U, 7U, 10U, 99U}) {
    for (const uint64_t length : {0x10001ULL, 0x7fffffffULL, 0x80000000ULL, 0xffffffffULL}) {
      RawClient client = disk.connect();
      client.greet();
      client.send("IHAVEOPT" + u32(asked) + u32(length));
      CHECK(client.is_ended());
    }
  }
  RawClient client = disk.connect();
  client.greet();
  CHECK(client.ask(99, std::string(65536, 'x')).type == REP_ERR_UNSUP);
  check_alive(disk);
}

// CVE-2022-26496
TEST_CASE("Lengths inside an option that contradict its length are invalid") {
  ServedDisk disk;
  disk.serve();
  RawClient client = disk.connect();
  client.greet();
  client.ask(OPT_STRUCTURED_REPLY);
  for (const uint64_t length :
       {1ULL, 7ULL, 4095ULL, 4096ULL, 4097ULL, 0x7fffffffULL, 0x80000000ULL, 0xffffffffULL}) {
    for (const uint32_t asked : {OPT_INFO, OPT_GO, OPT_LIST_META_CONTEXT, OPT_SET_META_CONTEXT}) {
      CHECK(client.ask(asked, u32(length)).type == REP_ERR_INVALID);
      CHECK(client.ask(asked, u32(length) + u16(0)).type == REP_ERR_INVALID);
    }
    const std::string query = u32(0) + u32(1) + u32(length);
    CHECK(client.ask(OPT_SET_META_CONTEXT, query).type == REP_ERR_INVALID);
    CHECK(client.ask(OPT_SET_META_CONTEXT, u32(0) + u32(length)).type == REP_ERR_INVALID);
  }
  for (const uint32_t asked : {OPT_INFO, OPT_GO, OPT_LIST_META_CONTEXT, OPT_SET_META_CONTEXT}) {
    for (size_t length = 0; length < 6; ++length) {
      CHECK(client.ask(asked, std::string(length, '\0')).type == REP_ERR_INVALID);
    }
  }
  CHECK(client.ask(OPT_GO, u32(0) + u16(2) + u16(3)).type == REP_ERR_INVALID);
  CHECK(client.ask(OPT_GO, u32(0) + u16(1) + u16(3) + "x").type == REP_ERR_INVALID);
  CHECK(client.ask_all(OPT_GO, info_payload("")).back().type == REP_ACK);
}

// CVE-2013-7441
TEST_CASE("A client may go at any byte of the handshake") {
  ServedDisk disk;
  disk.serve("disk");
  const std::string script =
      u32(3) + option(OPT_STRUCTURED_REPLY) + option(OPT_LIST) +
      option(OPT_SET_META_CONTEXT, context_payload("disk", {"base:allocation"})) +
      option(OPT_INFO, info_payload("disk", u16(3))) + option(OPT_GO, info_payload("disk")) +
      request(0, CMD_READ, 1, 0, 512) + request(0, CMD_WRITE, 2, 0, 16, std::string(16, 'w'));
  for (size_t length = 0; length <= script.size(); ++length) {
    RawClient leaves = disk.connect();
    leaves.send(std::string_view(script).substr(0, length));
    leaves.close();
    RawClient listens = disk.connect();
    listens.send(std::string_view(script).substr(0, length));
    listens.end_sending();
    CHECK(listens.receive_rest().size() >= 18);
  }
  CHECK(disk.connect().go("disk") != 0);
}

TEST_CASE("A handshake that comes byte by byte is understood") {
  ServedDisk disk;
  disk.serve();
  RawClient client = disk.connect();
  const std::string script = u32(3) + option(99, "abc") + option(OPT_GO, info_payload("")) +
                             request(0, CMD_FLUSH, 7, 0, 0);
  for (const char byte : script) REQUIRE(client.send(std::string(1, byte)));
  client.receive(18 + 20);
  client.end_sending();
  CHECK(client.receive_rest().ends_with(u32(0x67446698) + u32(0) + u64(7)));
}

// CVE-2017-9524, CVE-2017-7539
TEST_CASE("Random bytes in the handshake harm nobody") {
  ServedDisk disk;
  disk.serve();
  for (uint64_t seed = 0; seed < 10000; ++seed) {
    std::mt19937_64 random(seed);
    RawClient client = disk.connect();
    if (seed % 4 > 0) client.send(u32(seed % 4));
    if (seed % 3 == 0) client.send("IHAVEOPT" + u32(random() % 12) + u32(random() % 200));
    if (seed % 3 == 1) client.send("IHAVEOPT" + u32(random() % 12) + u32(random()));
    send_random_bytes(client, random, random() % 512);
  }
  check_alive(disk);
}

TEST_CASE("The handshake has a time limit, idle or trickling; transmission has none") {
  ServedDisk disk;
  disk.parameters.handshake_limit = std::chrono::milliseconds(200);
  disk.serve();
  RawClient idle = disk.connect();
  RawClient negotiating = disk.connect();
  RawClient working = disk.go();
  negotiating.greet();
  CHECK(negotiating.ask_all(OPT_LIST).back().type == REP_ACK);
  CHECK(idle.receive(18).size() == 18);
  CHECK(idle.is_ended());
  CHECK(negotiating.is_ended());
  CHECK(working.call(0, CMD_READ, 0, 512).error == 0);
}

// nbdkit CVE-2019-14850
TEST_CASE("Half a handshake does not touch the device") {
  ServedDisk disk;
  disk.serve();
  RawClient client = disk.connect();
  client.greet();
  client.ask_all(OPT_LIST);
  client.ask_all(OPT_INFO, info_payload("", u16(1) + u16(2) + u16(3)));
  client.close();
  CHECK(disk.device->take_seen().empty());
}
