// NbdServer: serves BlockDevices over NBD on threads of its own.
//
// It knows BlockDevice and nothing of tracking. Connections are spread over a
// fixed set of threads, each an epoll loop; a connection's requests are parsed
// many at a time out of one receive, submitted from its thread, and their
// replies gathered into one send. docs/nbd-support.md says what is supported.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/status.h"
#include "device/block_device.h"

namespace tidemark {

// What a server shows to TLS clients and asks of them. All PEM.
struct NbdTlsParameters {
  std::string certificate_pem;  // the server's, its intermediates behind it
  std::string key_pem;          // without a passphrase
  // Clients must show a certificate of one of these authorities; revocation
  // lists in the same text are honoured. "": none is asked for.
  std::string authority_pem;
  // Names that clients' certificates must have one of: exact, or "*.example.com"
  // for all under it. Empty: any.
  std::vector<std::string> allowed_clients;
};

struct NbdServerParameters {
  std::string unix_path;      // either this ...
  std::string host;           // ... or a numeric address
  uint16_t port = 0;          // 0: any; see address()
  int listen_fd = -1;         // ... or a stream socket that listens already; taken over
  uint32_t thread_count = 0;  // 0: one for each core, at least 2
  uint32_t max_connections = 256;
  // False: connections wait in the socket's queue until accept(), so that nobody
  // comes before the exports are there.
  bool accepts_at_once = true;
  std::chrono::milliseconds handshake_limit{10'000};  // the TLS handshake included
  // The client is this machine's kernel: nothing on the data path may wait for
  // memory (common/io_flusher.h). Needs root.
  bool for_kernel_client = false;
  std::chrono::microseconds busy_poll{50};  // how long a thread looks for more before it sleeps
  std::optional<NbdTlsParameters> tls;      // set: required of every client; else refused
  // A client that neither sends nor reads for so long, with nothing in flight, is
  // closed; 0: never, for a guest may be idle for days.
  std::chrono::milliseconds idle_limit{0};
  // How long an I/O thread without work keeps its buffers.
  std::chrono::milliseconds buffer_keep_time{5'000};
};

struct NbdExport {
  std::string name;  // UTF-8, at most 4096 bytes; "" is the default export
  std::string description;
  bool read_only = false;
  std::shared_ptr<BlockDevice> device;
};

struct NbdServerStatistics {
  uint64_t connections_open = 0;
  uint64_t connections_total = 0;
  uint64_t requests_total = 0;
  uint64_t errors_total = 0;        // requests answered with an error
  uint64_t tls_refusals_total = 0;  // clients that did not get through the TLS handshake
  std::string last_tls_refusal;     // why, a sentence; "" while there is none
};

class NbdServer {
 public:
  // Listening when it returns. kInUse when the socket is served by another
  // process; a stale Unix socket (nobody answers) is replaced.
  static Result<std::unique_ptr<NbdServer>> start(const NbdServerParameters& parameters);
  ~NbdServer();  // stop()

  // Lets connections in, if that was put off. Idempotent.
  void accept();

  Status add_export(NbdExport entry);  // kAlreadyExists
  // Its connections end after what is in flight. Blocks until they have: then
  // the server has no request on the device any more, and does not hold it. A client that does not
  // read its replies delays that by at most a second.
  Status remove_export(const std::string& name);
  // Connections in transmission on it; 0 for an export that is not there.
  uint32_t client_count(const std::string& name) const;

  // For new connections; those that are open go on. kInvalidArgument for a server
  // without TLS: whether it is required is decided at the start.
  Status set_tls(const NbdTlsParameters& parameters);
  // Its connections end after what is in flight, without an error; who comes back
  // is served, and learns the disk's present size. Returns at once. kNotFound.
  Status reconnect_clients(const std::string& name);

  std::string address() const;  // "unix:PATH" or "HOST:PORT"
  NbdServerStatistics statistics() const;

  // Stops accepting, finishes what is in flight, closes the sockets, joins the
  // threads, unlinks its own Unix socket. Idempotent. Blocks.
  void stop();

 private:
  class Impl;
  explicit NbdServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tidemark
