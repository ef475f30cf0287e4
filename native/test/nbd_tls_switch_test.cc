// The switch to TLS: who may say what before it, and that nothing said before it
// counts behind it.
#include <doctest/doctest.h>

#include <random>

#include "nbd_tls_fixture.h"

using namespace nbd_test;

namespace {

const std::initializer_list<uint32_t> kOptionsBehindTls = {OPT_LIST,
                                                           OPT_INFO,
                                                           OPT_GO,
                                                           OPT_STRUCTURED_REPLY,
                                                           OPT_EXTENDED_HEADERS,
                                                           OPT_LIST_META_CONTEXT,
                                                           OPT_SET_META_CONTEXT,
                                                           0,
                                                           4,
                                                           12,
                                                           0xffffffff};

std::string payload_of(uint32_t number_of_option) {
  if (number_of_option == OPT_INFO || number_of_option == OPT_GO) return info_payload("");
  if (number_of_option == OPT_SET_META_CONTEXT || number_of_option == OPT_LIST_META_CONTEXT) {
    return context_payload("", {"base:allocation"});
  }
  return {};
}

// What a client writes until it waits for the server's answer.
std::string client_hello() {
  std::unique_ptr<SSL_CTX, void (*)(SSL_CTX*)> context(SSL_CTX_new(TLS_client_method()),
                                                       &SSL_CTX_free);
  std::unique_ptr<SSL, void (*)(SSL*)> ssl(SSL_new(context.get()), &SSL_free);
  BIO* out = BIO_new(BIO_s_mem());
  SSL_set_bio(ssl.get(), BIO_new(BIO_s_mem()), out);
  SSL_connect(ssl.get());
  char* bytes = nullptr;
  const long length = BIO_get_mem_data(out, &bytes);
  return std::string(bytes, static_cast<size_t>(length));
}

// A handshake of which the server gets only the first `length_bytes`. Returns
// how many bytes the client would have sent in all, as far as it came.
size_t send_part_of_handshake(const TlsDisk& disk, size_t length_bytes) {
  RawClient client = disk.connect();
  client.greet();
  REQUIRE(client.ask(OPT_STARTTLS).type == REP_ACK);
  TlsClient tls(client.fd(), disk.client_options());
  BIO* in = BIO_new(BIO_s_mem());
  BIO* out = BIO_new(BIO_s_mem());
  BIO_set_mem_eof_return(in, -1);
  SSL_set_bio(tls.ssl(), in, out);
  size_t sent = 0;
  while (true) {
    const bool is_done = SSL_do_handshake(tls.ssl()) == 1;
    char* bytes = nullptr;
    const auto pending = static_cast<size_t>(BIO_get_mem_data(out, &bytes));
    const size_t part = std::min(pending, length_bytes - sent);
    REQUIRE(client.send({bytes, part}));
    sent += part;
    if (is_done || part < pending) return sent + (pending - part);
    BIO_reset(out);
    char buffer[8192];
    const ssize_t received = ::recv(client.fd(), buffer, sizeof buffer, 0);
    REQUIRE(received > 0);
    BIO_write(in, buffer, static_cast<int>(received));
  }
}

}  // namespace

TEST_CASE("A server that requires TLS answers everything but STARTTLS and ABORT with TLS_REQD") {
  TlsDisk disk;
  disk.serve();
  RawClient client = disk.connect();
  client.greet();
  for (const uint32_t number_of_option : kOptionsBehindTls) {
    const OptionAnswer answer = client.ask(number_of_option, payload_of(number_of_option));
    CHECK(answer.type == REP_ERR_TLS_REQD);
    CHECK(answer.option == number_of_option);
  }
  CHECK(client.ask(OPT_STARTTLS, "data").type == REP_ERR_INVALID);
  CHECK(client.ask(OPT_ABORT).type == REP_ACK);
  CHECK(client.is_ended());
}

TEST_CASE("A server that requires TLS drops a client that says EXPORT_NAME in the clear") {
  TlsDisk disk;
  disk.serve();
  for (const uint32_t flags : {0U, 1U, 3U}) {
    RawClient client = disk.connect();
    client.greet(flags);
    client.send(option(OPT_EXPORT_NAME));
    CHECK(client.is_ended());
  }
  CHECK(disk.device->take_seen().empty());
}

TEST_CASE("A server without TLS refuses STARTTLS by policy and goes on in the clear") {
  ServedDisk disk;
  disk.serve();
  RawClient client = disk.connect();
  client.greet();
  CHECK(client.ask(OPT_STARTTLS).type == REP_ERR_POLICY);
  CHECK(client.ask(OPT_STARTTLS, "data").type == REP_ERR_INVALID);
  client.negotiate();
  CHECK(client.call(0, CMD_READ, 0, 4).payload.size() == 4);
}

TEST_CASE("Inside TLS all options work, and STARTTLS is invalid") {
  TlsDisk disk;
  disk.serve();
  RawClient client = disk.connect_tls();
  CHECK(client.ask(OPT_STARTTLS).type == REP_ERR_INVALID);
  CHECK(client.ask_all(OPT_LIST).size() == 2);
  client.negotiate({}, true, {"base:allocation"});
  CHECK(client.call(FLAG_FUA, CMD_WRITE, 100, 4, "wave").error == 0);
  const Reply reply = client.call(0, CMD_READ, 100, 4);
  CHECK(reply.is_structured);
  CHECK(reply.payload == u64(100) + "wave");
}

TEST_CASE("EXPORT_NAME works inside TLS, with the zeroes that the client's flags ask for") {
  TlsDisk disk;
  disk.serve();
  for (const bool no_zeroes : {false, true}) {
    RawClient client = disk.connect();
    client.greet(no_zeroes ? 3 : 1);
    REQUIRE(client.ask(OPT_STARTTLS).type == REP_ACK);
    auto tls = std::make_unique<TlsClient>(client.fd(), disk.client_options());
    REQUIRE(tls->shake_hands());
    client.go_inside(std::move(tls));
    client.send(option(OPT_EXPORT_NAME));
    CHECK(client.receive(no_zeroes ? 10 : 134).size() == (no_zeroes ? 10 : 134));
    CHECK(client.call(0, CMD_READ, 0, 4).payload.size() == 4);
  }
}

TEST_CASE("CVE-2021-3716: what was said before STARTTLS is forgotten inside TLS") {
  TlsDisk disk;
  disk.serve();
  RawClient client = disk.connect();
  client.greet();
  client.send(option(OPT_STRUCTURED_REPLY) +
              option(OPT_SET_META_CONTEXT, context_payload("", {"base:allocation"})));
  CHECK(client.receive_answer().type == REP_ERR_TLS_REQD);
  CHECK(client.receive_answer().type == REP_ERR_TLS_REQD);
  REQUIRE(client.ask(OPT_STARTTLS).type == REP_ACK);
  auto tls = std::make_unique<TlsClient>(client.fd(), disk.client_options());
  REQUIRE(tls->shake_hands());
  client.go_inside(std::move(tls));
  client.negotiate();
  const Reply read = client.call(0, CMD_READ, 0, 4);
  CHECK_FALSE(read.is_structured);
  CHECK(client.call(0, CMD_BLOCK_STATUS, 0, 4096).error == 22);
}

TEST_CASE("CVE-2021-3716: bytes that came along behind STARTTLS end the connection unanswered") {
  TlsDisk disk;
  disk.serve();
  const std::string injected = option(OPT_STRUCTURED_REPLY) + option(OPT_GO, info_payload(""));
  for (const std::string& trailing : {"x"s, injected, client_hello(), std::string(70'000, 'y')}) {
    RawClient client = disk.connect();
    client.greet();
    client.send(option(OPT_STARTTLS) + trailing);
    CHECK(client.receive_rest().empty());
  }
  CHECK(disk.last_refusal() ==
        "Cannot accept a local client: because it sent more in the clear behind STARTTLS.");
  check_alive(disk);
}

TEST_CASE("CVE-2021-3716: bytes that come in the clear behind the switch are not NBD any more") {
  TlsDisk disk;
  disk.serve();
  RawClient client = disk.connect();
  client.greet();
  REQUIRE(client.ask(OPT_STARTTLS).type == REP_ACK);
  client.send(option(OPT_STRUCTURED_REPLY) + option(OPT_GO, info_payload("")));
  CHECK(client.receive_rest().empty());
  CHECK(disk.server->statistics().requests_total == 0);
  check_alive(disk);
}

TEST_CASE("Replies in the clear that the client is slow to take all leave before the switch") {
  TlsDisk disk;
  disk.serve();
  RawClient client = disk.connect();
  client.greet();
  // Far more than the sockets hold, so that the server waits with the answer to STARTTLS.
  constexpr int kCount = 100'000;
  std::string flood;
  for (int i = 0; i < kCount; ++i) flood += option(OPT_LIST);
  std::thread sender([&] { client.send(flood + option(OPT_STARTTLS)); });
  for (int i = 0; i < kCount; ++i) {
    const OptionAnswer answer = client.receive_answer();
    if (answer.type != REP_ERR_TLS_REQD) FAIL("option reply " << i << " is " << answer.type);
  }
  CHECK(client.receive_answer().type == REP_ACK);
  sender.join();
  auto tls = std::make_unique<TlsClient>(client.fd(), disk.client_options());
  REQUIRE(tls->shake_hands());
  client.go_inside(std::move(tls));
  client.negotiate();
  CHECK(client.call(0, CMD_READ, 0, 4).payload.size() == 4);
}

TEST_CASE("Garbage instead of a ClientHello is refused and leaves no trace") {
  TlsDisk disk;
  disk.serve();
  std::mt19937_64 random(7);
  const std::string hello = client_hello();
  for (int i = 0; i < 200; ++i) {
    RawClient client = disk.connect();
    client.greet();
    REQUIRE(client.ask(OPT_STARTTLS).type == REP_ACK);
    std::string bytes = i % 2 == 0 ? hello : std::string(1 + random() % 20'000, '\0');
    if (i % 2 == 0) {
      for (int flips = 0; flips < 3; ++flips) bytes[random() % bytes.size()] ^= 1 << random() % 8;
    } else {
      for (char& byte : bytes) byte = static_cast<char>(random());
    }
    client.send(bytes);
    client.end_sending();
    client.receive_rest();
  }
  disk.wait_for_refusals(200);
  CHECK(disk.device->take_seen().empty());
  check_alive(disk);
}

TEST_CASE("A client may vanish at every byte of the TLS handshake") {
  TlsDisk disk;
  disk.serve();
  const size_t whole = send_part_of_handshake(disk, SIZE_MAX);
  CHECK(whole > 1000);
  // Signatures differ in length, so that now and then a handshake is whole before.
  uint64_t cut_count = 0;
  for (size_t length = 0; length < whole; ++length) {
    cut_count += send_part_of_handshake(disk, length) > length;
  }
  check_alive(disk);
  CHECK(disk.device->take_seen().size() == 1);
  disk.wait_for_refusals(cut_count);
  CHECK(disk.last_refusal() ==
        "Cannot accept a local client: because it hung up in the TLS handshake (it may not accept "
        "the server's certificate).");
}

TEST_CASE("The handshake's limit covers the TLS handshake and the options inside") {
  TlsDisk disk;
  disk.parameters.handshake_limit = std::chrono::milliseconds(300);
  disk.serve();
  RawClient half_way = disk.connect();
  half_way.greet();
  REQUIRE(half_way.ask(OPT_STARTTLS).type == REP_ACK);
  half_way.send(client_hello().substr(0, 50));
  RawClient undecided = disk.connect_tls();
  CHECK(half_way.is_ended());
  CHECK(undecided.is_ended());
  CHECK(disk.last_refusal() ==
        "Cannot accept a local client: because it did not complete the TLS handshake.");
}

TEST_CASE("A stop does not wait for clients in the TLS handshake") {
  TlsDisk disk;
  disk.serve();
  RawClient client = disk.connect();
  client.greet();
  REQUIRE(client.ask(OPT_STARTTLS).type == REP_ACK);
  client.send(client_hello().substr(0, 50));
  disk.server->stop();
  CHECK(client.is_ended());
}
