// Which clients a server that asks for certificates lets in, and what it says of
// the others.
#include <doctest/doctest.h>

#include "nbd/tls_client_names.h"
#include "nbd_tls_fixture.h"

using namespace nbd_test;
using tidemark::ErrorCode;
using tidemark::NbdTlsParameters;

namespace {

bool has(const std::string& text, std::string_view part) {
  const bool is_there = text.find(part) != std::string::npos;
  if (!is_there) MESSAGE(text);
  return is_there;
}

// As `shown` and refused for `reason`.
void check_refused(const TlsDisk& disk, const Identity* shown, std::string_view reason) {
  const uint64_t refusals_before = disk.server->statistics().tls_refusals_total;
  CHECK_FALSE(disk.accepts({shown, &disk.authority, 0}));
  CHECK(disk.server->statistics().tls_refusals_total == refusals_before + 1);
  CHECK(has(disk.last_refusal(), reason));
}

Identity issue(const TlsDisk& disk, const CertificateOptions& options) {
  return make_identity(options, &disk.authority);
}

}  // namespace

TEST_CASE("A client needs a certificate of the authority, in its time and for its use") {
  TlsDisk disk;
  disk.serve();
  const Identity stranger = make_identity({}, nullptr);
  const Identity other_authority = make_authority("test CA");
  const Identity impostor = make_identity({}, &other_authority);
  const Identity expired = issue(disk, {"old", "DNS:old", "clientAuth", -7200, -3600});
  const Identity early = issue(disk, {"early", "DNS:early", "clientAuth", 3600, 7200});
  const Identity server_only = issue(disk, {"server", "DNS:server", "serverAuth"});
  const Identity without_usage = issue(disk, {"any", "DNS:any", ""});
  check_refused(disk, nullptr, "peer did not return a certificate");
  check_refused(disk, &stranger, "self-signed certificate");
  check_refused(disk, &impostor, "certificate signature failure");
  check_refused(disk, &expired, "certificate has expired");
  check_refused(disk, &early, "certificate is not yet valid");
  check_refused(disk, &server_only, "certificate purpose");
  check_refused(disk, &without_usage, "extended key usage does not name clientAuth");
  CHECK(disk.device->take_seen().empty());
  check_alive(disk);
}

TEST_CASE("A revoked client is refused, another is not") {
  TlsDisk disk;
  const Identity revoked = issue(disk, {"revoked", "DNS:revoked"});
  disk.parameters.tls->authority_pem += make_revocation_list(disk.authority, revoked);
  disk.serve();
  check_refused(disk, &revoked, "certificate revoked");
  check_alive(disk);
}

TEST_CASE("Where names are given, a client needs one of them") {
  TlsDisk disk;
  disk.parameters.tls->allowed_clients = {"vm1.example.com", "*.backup.example.com", "192.0.2.7",
                                          "qemu host"};
  CHECK(tidemark::NbdServer::start(disk.parameters).status().code() == ErrorCode::kInvalidArgument);
  disk.parameters.tls->allowed_clients.back() = "qemu-host";
  disk.serve();
  const auto accepts = [&](const std::string& common_name, const std::string& alternative_names) {
    const Identity shown = issue(disk, {common_name, alternative_names});
    return disk.accepts({&shown, &disk.authority, 0});
  };
  CHECK(accepts("x", "DNS:vm1.example.com"));
  CHECK(accepts("x", "DNS:other,DNS:VM1.Example.Com"));
  CHECK(accepts("x", "DNS:a.backup.example.com"));
  CHECK(accepts("x", "DNS:b.a.backup.example.com"));
  CHECK(accepts("x", "IP:192.0.2.7"));
  CHECK(accepts("qemu-host", ""));
  CHECK(accepts("qemu-host", "email:someone@example.com"));
  CHECK_FALSE(accepts("x", "DNS:vm11.example.com"));
  CHECK_FALSE(accepts("x", "DNS:backup.example.com"));
  CHECK_FALSE(accepts("x", "DNS:evilbackup.example.com"));
  CHECK_FALSE(accepts("x", "DNS:*.backup.example.com"));
  CHECK_FALSE(accepts("x", "DNS:vm1.example.com.evil.net"));
  CHECK_FALSE(accepts("x", "IP:192.0.2.70"));
  CHECK_FALSE(accepts("x", "URI:https://vm1.example.com,DNS:other"));
  CHECK(has(disk.last_refusal(), "no client of its names is allowed (other)"));
  CHECK_FALSE(accepts("vm1.example.com", "DNS:other"));  // the common name does not count then
  CHECK_FALSE(accepts("x", ""));
}

TEST_CASE("A name with a zero byte inside is no name") {
  using tidemark::nbd::is_client_allowed;
  const auto named = [](std::string common_name) {
    return make_identity({std::move(common_name), ""});
  };
  CHECK(is_client_allowed(named("vm1.example.com").certificate.get(), {"vm1.example.com"}));
  CHECK_FALSE(is_client_allowed(named("vm1.example.com\0.evil.net"s).certificate.get(),
                                {"vm1.example.com"}));
  CHECK_FALSE(is_client_allowed(named("").certificate.get(), {"vm1.example.com"}));
}

TEST_CASE("Without a client CA no certificate is asked for") {
  TlsDisk disk;
  disk.parameters.tls->authority_pem.clear();
  disk.serve();
  CHECK(disk.accepts({nullptr, &disk.authority, 0}));
  CHECK(disk.accepts({&disk.client_identity, &disk.authority, 0}));
  disk.parameters.tls->allowed_clients = {"vm1.example.com"};
  CHECK(disk.server->set_tls(*disk.parameters.tls).code() == ErrorCode::kInvalidArgument);
}

TEST_CASE("TLS 1.2 and 1.3 are spoken, nothing older") {
  TlsDisk disk;
  disk.serve();
  const auto accepts = [&](int version) {
    return disk.accepts({&disk.client_identity, &disk.authority, version});
  };
  CHECK(accepts(TLS1_3_VERSION));
  CHECK(accepts(TLS1_2_VERSION));
  CHECK_FALSE(accepts(TLS1_1_VERSION));
  CHECK(has(disk.last_refusal(), "unsupported protocol"));
  CHECK_FALSE(accepts(TLS1_VERSION));
}

TEST_CASE("No session is resumed") {
  TlsDisk disk;
  disk.serve();
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    RawClient first = disk.connect();
    TlsClient& tls = begin_tls(first, {&disk.client_identity, &disk.authority, version});
    first.negotiate();
    first.call(0, CMD_READ, 0, 4);
    CHECK_FALSE(SSL_SESSION_is_resumable(SSL_get0_session(tls.ssl())));
  }
}

TEST_CASE("A client that refuses our certificate is told of in the server's words") {
  TlsDisk disk;
  disk.serve();
  const Identity other_authority = make_authority("another CA");
  RawClient client = disk.connect();
  CHECK(try_tls(client, {&disk.client_identity, &other_authority, 0}) == nullptr);
  CHECK(has(disk.last_refusal(), "alert unknown ca"));
}

TEST_CASE("Renewed certificates are for new connections; open ones go on") {
  TlsDisk disk;
  disk.serve();
  RawClient before = disk.go_tls();
  const Identity other_authority = make_authority("next CA");
  const Identity next_server = make_identity({"next"}, &other_authority);
  const Identity next_client = make_identity({}, &other_authority);
  const NbdTlsParameters next{
      next_server.certificate_pem, next_server.key_pem, other_authority.certificate_pem, {}};
  REQUIRE(disk.server->set_tls(next).is_ok());
  CHECK(before.call(0, CMD_READ, 0, 4).payload.size() == 4);
  CHECK(disk.accepts({&next_client, &other_authority, 0}));
  CHECK_FALSE(disk.accepts(disk.client_options()));

  // What cannot be used changes nothing.
  NbdTlsParameters wrong = next;
  wrong.key_pem = disk.server_identity.key_pem;
  CHECK(disk.server->set_tls(wrong).code() == ErrorCode::kForeign);
  CHECK(disk.accepts({&next_client, &other_authority, 0}));
}

TEST_CASE("A server without TLS does not get it later") {
  ServedDisk disk;
  disk.serve();
  const TlsDisk other;
  CHECK(disk.server->set_tls(other.tls_parameters()).code() == ErrorCode::kInvalidArgument);
  check_alive(disk);
}

TEST_CASE("Certificates and keys that cannot be used are refused at the start, by kind") {
  TlsDisk disk;
  const auto code = [&](auto edit) {
    tidemark::NbdServerParameters parameters = disk.parameters;
    edit(*parameters.tls);
    return tidemark::NbdServer::start(parameters).status().code();
  };
  const Identity expired = issue(disk, {"old", "DNS:old", "serverAuth", -7200, -3600});
  const Identity early = issue(disk, {"early", "DNS:early", "serverAuth", 3600, 7200});
  const Identity client_only = issue(disk, {"client", "DNS:client", "clientAuth"});
  const auto use = [](const Identity& identity) {
    return [&](NbdTlsParameters& tls) {
      tls.certificate_pem = identity.certificate_pem;
      tls.key_pem = identity.key_pem;
    };
  };
  CHECK(code([](NbdTlsParameters& tls) { tls.certificate_pem = ""; }) == ErrorCode::kCorrupt);
  CHECK(code([](NbdTlsParameters& tls) { tls.certificate_pem = tls.key_pem; }) ==
        ErrorCode::kCorrupt);
  CHECK(code([](NbdTlsParameters& tls) { tls.key_pem = "no PEM"; }) == ErrorCode::kCorrupt);
  CHECK(code([](NbdTlsParameters& tls) { tls.key_pem = tls.certificate_pem; }) ==
        ErrorCode::kCorrupt);
  CHECK(code([](NbdTlsParameters& tls) { tls.authority_pem = "no PEM"; }) == ErrorCode::kCorrupt);
  CHECK(code([&](NbdTlsParameters& tls) { tls.key_pem = disk.client_identity.key_pem; }) ==
        ErrorCode::kForeign);
  CHECK(code(use(expired)) == ErrorCode::kInvalidArgument);
  CHECK(code(use(early)) == ErrorCode::kInvalidArgument);
  CHECK(code(use(client_only)) == ErrorCode::kInvalidArgument);
  for (const std::string wrong : {"", "*", "*.", "*.*", "a b", "*.0.2.7", ".example.com", "a\nb"}) {
    CHECK(code([&](NbdTlsParameters& tls) { tls.allowed_clients = {wrong}; }) ==
          ErrorCode::kInvalidArgument);
  }
  CHECK(code([](NbdTlsParameters&) {}) == ErrorCode::kOk);
}
