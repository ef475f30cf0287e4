// The switch to TLS: bytes before STARTTLS, behind it, inside TLS and in place of
// TLS. The first byte says how the bytes are cut; then come steps: a kind, a length
// of two bytes, and that many bytes.
//
// The TLS client is OpenSSL itself, so that what is sent inside is truly inside;
// its keys are new each time, and with them the records.
#define DOCTEST_CONFIG_IMPLEMENT  // for the assertions in tls_certificates.h
#include <openssl/err.h>

#include <algorithm>
#include <optional>

#include "fuzz_server.h"
#include "fuzz_target.h"
#include "option_reply_check.h"
#include "test/tls_certificates.h"
#include "wire_sample.h"

namespace tidemark::fuzz {

namespace {

enum Step {
  kClear,     // as they are, whatever the connection is at
  kStartTls,  // STARTTLS and a whole handshake
  kInside,    // through TLS, if it is there
  kDamaged,   // through TLS; the first byte says which bit of the records is flipped
  kStepKinds,
};

constexpr uint64_t kStartTlsOption = 5;
constexpr uint64_t kAbortOption = 2;
constexpr size_t kMaximumStepBytes = 65535;

struct Certificates {
  nbd_test::Identity authority = nbd_test::make_authority();
  nbd_test::Identity server = nbd_test::make_identity({}, &authority);
  nbd_test::Identity client = nbd_test::make_identity({}, &authority);
};
Certificates& certificates() {
  static doctest::Context outside_of_tests;
  outside_of_tests.setAsDefaultForAssertsOutOfTestCases();
  static auto* made = new Certificates;
  return *made;
}

nbd::TlsSettings& settings() {
  static auto* made = [] {
    const Certificates& all = certificates();
    auto context = nbd::TlsContext::create(
        {all.server.certificate_pem, all.server.key_pem, all.authority.certificate_pem, {}});
    demand(context.is_ok(), "the certificates are refused");
    return new nbd::TlsSettings(std::move(context).value());
  }();
  return *made;
}

SSL_CTX* client_context() {
  static SSL_CTX* const made = [] {
    SSL_CTX* context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_use_certificate(context, certificates().client.certificate.get());
    SSL_CTX_use_PrivateKey(context, certificates().client.key.get());
    return context;
  }();
  return made;
}

// A client's end of TLS, in memory.
class TlsEnd {
 public:
  TlsEnd() : ssl_(SSL_new(client_context())) {
    SSL_set_bio(ssl_.get(), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_connect_state(ssl_.get());
  }

  bool is_established() const { return SSL_is_init_finished(ssl_.get()) == 1; }
  void take(const std::string& records) {
    BIO_write(SSL_get_rbio(ssl_.get()), records.data(), static_cast<int>(records.size()));
    char buffer[16384];
    for (int length; (length = SSL_read(ssl_.get(), buffer, sizeof buffer)) > 0;) {
      received_.append(buffer, static_cast<size_t>(length));
    }
    ERR_clear_error();
  }
  void put(const std::string& bytes) {
    if (!bytes.empty()) SSL_write(ssl_.get(), bytes.data(), static_cast<int>(bytes.size()));
    ERR_clear_error();
  }
  std::string take_records() {
    std::string records(BIO_ctrl_pending(SSL_get_wbio(ssl_.get())), '\0');
    BIO_read(SSL_get_wbio(ssl_.get()), records.data(), static_cast<int>(records.size()));
    return records;
  }
  const std::string& received() const { return received_; }

 private:
  nbd::SslPtr ssl_;
  std::string received_;
};

// One input's client, and all that it got.
class Client {
 public:
  explicit Client(const FuzzServer::Options& options) : server_(options) {}

  void take_step(Step step, std::string bytes) {
    if (step == kStartTls && !tls_) return start_tls();
    if (step == kClear || step == kStartTls || !tls_) return send(bytes);
    const size_t bit = bytes.empty() || step != kDamaged ? 0 : static_cast<uint8_t>(bytes[0]);
    tls_->put(bytes);
    std::string records = tls_->take_records();
    if (step == kDamaged && !records.empty()) {
      char& byte = records[bit * 7919 % records.size()];
      byte = static_cast<char>(byte ^ (1 << bit % 8));
    }
    send(records);
  }

  void finish() {
    server_.finish();
    take(server_.take_all());
    demand(is_established_ || requests_total() == requests_before_, "a request in the clear");
    check_raw();
    if (tls_)
      check_option_replies(tls_->received(), 0, [](const OptionReplySeen&) { return true; });
  }

 private:
  void send(const std::string& bytes) {
    server_.send(bytes);
    take(server_.take_replies());
  }
  void take(const std::string& replies) {
    raw_ += replies;
    if (!tls_) return;
    tls_->take(replies);
    is_established_ = is_established_ || tls_->is_established();
  }

  void start_tls() {
    send(option(kStartTlsOption));
    const std::string accepted = be(kStartTlsOption, 4) + be(1, 4) + be(0, 4);
    if (!raw_.ends_with(accepted)) return;
    tls_.emplace();
    tls_->take({});
    for (int flights = 0; flights < 3; ++flights) send(tls_->take_records());
  }

  // A greeting and refusals; once STARTTLS is accepted nothing but whole records.
  void check_raw() const {
    demand(raw_.starts_with("NBDMAGICIHAVEOPT"), "no greeting");
    bool is_switched = false;
    size_t at = check_option_replies(raw_, kGreetingBytes, [&](const OptionReplySeen& seen) {
      const bool is_refusal = seen.type >= 0x80000000;
      demand(is_refusal || seen.option == kStartTlsOption || seen.option == kAbortOption,
             "an option was granted in the clear");
      is_switched = !is_refusal && seen.option == kStartTlsOption;
      return !is_switched;
    });
    demand(is_switched || at == raw_.size(), "clear bytes that are no option reply");
    while (at < raw_.size()) {
      demand(raw_.size() - at >= 5, "a record is cut off");
      const uint64_t type = be_at(raw_, at, 1);
      const uint64_t length = be_at(raw_, at + 3, 2);
      demand(type >= 20 && type <= 23 && be_at(raw_, at + 1, 1) == 3,
             "clear bytes after the switch");
      demand(length <= raw_.size() - at - 5, "a record is cut off");
      at += 5 + length;
    }
  }

  FuzzServer server_;
  const uint64_t requests_before_ = requests_total();
  std::optional<TlsEnd> tls_;
  bool is_established_ = false;
  std::string raw_;
};

std::string step(Step kind, const std::string& bytes = {}) {
  const size_t length = std::min(bytes.size(), kMaximumStepBytes);
  return be(kind, 1) + be(length, 2) + bytes.substr(0, length);
}

}  // namespace

void fuzz_one(std::span<const std::byte> input) {
  if (input.empty()) return;
  const std::string bytes(reinterpret_cast<const char*>(input.data()), input.size());
  FuzzServer::Options options;
  options.tls = &settings();
  options.piece_bytes = bytes[0] % 4 == 0 ? 7 : 1 << 20;
  options.is_late = (bytes[0] & 4) != 0;
  Client client(options);
  for (size_t at = 1; at + 3 <= bytes.size();) {
    const size_t length = be_at(bytes, at + 1, 2);
    client.take_step(static_cast<Step>(be_at(bytes, at, 1) % kStepKinds),
                     bytes.substr(at + 3, length));
    at += 3 + length;
  }
  client.finish();
}

std::string sample(std::mt19937_64& random) {
  std::string bytes(1, static_cast<char>(random()));
  bytes += step(kClear, be(random() % 32 == 0 ? random() : 1 + random() % 3, 4));
  for (uint64_t count = random() % 4 / 2; count > 0; --count) {
    bytes += step(kClear, random_option(random));
  }
  // Behind STARTTLS in the same send: from a client, or from someone in between.
  if (random() % 16 == 0) bytes += step(kClear, option(5) + random_option(random));
  if (random() % 16 != 0) bytes += step(kStartTls);
  std::string inside;
  for (uint64_t count = random() % 4 / 2; count > 0; --count) inside += random_option(random);
  const bool is_extended = random() % 2 == 0;
  if (is_extended) inside += option(11);
  inside += option(7, named("") + be(0, 2));
  bytes += step(random() % 16 == 0 ? kClear : kInside, inside);
  for (uint64_t count = random() % 12; count > 0; --count) {
    const Step kind = random() % 24 != 0 ? kInside : random() % 2 == 0 ? kClear : kDamaged;
    std::string requests;
    for (uint64_t i = 1 + random() % 8; i > 0; --i) {
      const std::string request = random_request(random, is_extended);
      if (requests.size() + request.size() <= kMaximumStepBytes) requests += request;
    }
    bytes += step(kind, requests);
  }
  return bytes;
}

}  // namespace tidemark::fuzz
