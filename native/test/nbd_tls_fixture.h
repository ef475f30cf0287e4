// TlsDisk: a disk behind a server that requires TLS, and certificates for it.
#pragma once

#include "nbd_fixture.h"
#include "tls_client.h"

namespace nbd_test {

struct TlsDisk : ServedDisk {
  explicit TlsDisk(uint64_t size_bytes = kSizeBytes) : ServedDisk(size_bytes) {
    parameters.tls = tls_parameters();
  }

  tidemark::NbdTlsParameters tls_parameters() const {
    return {
        server_identity.certificate_pem, server_identity.key_pem, authority.certificate_pem, {}};
  }
  TlsClientOptions client_options() const { return {&client_identity, &authority, 0}; }
  RawClient connect_tls() const {
    RawClient client = connect();
    begin_tls(client, client_options());
    return client;
  }
  RawClient go_tls(bool structured = false,
                   std::initializer_list<std::string> contexts = {}) const {
    RawClient client = connect_tls();
    client.negotiate({}, structured, contexts);
    return client;
  }

  // Whether the server lets this client as far as the options.
  bool accepts(const TlsClientOptions& options) const {
    RawClient client = connect();
    if (try_tls(client, options) == nullptr) return false;
    return client.send(option(OPT_LIST)) && client.receive(20).size() == 20;
  }
  std::string last_refusal() const { return server->statistics().last_tls_refusal; }

  Identity authority = make_authority();
  Identity server_identity = make_identity({}, &authority);
  Identity client_identity = make_identity({"client", "DNS:vm1.example.com"}, &authority);
};

// The server still serves.
inline void check_alive(const TlsDisk& disk) {
  RawClient client = disk.go_tls();
  CHECK(client.call(0, CMD_READ, 0, 512).payload.size() == 512);
}

}  // namespace nbd_test
