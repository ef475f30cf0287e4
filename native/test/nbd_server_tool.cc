// nbd_server_tool: serves one disk over NBD until SIGTERM or SIGINT, for
// foreign clients and benchmarks.
#include <signal.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

#include "device/file_device.h"
#include "device/memory_device.h"
#include "nbd/nbd_server.h"

namespace {

using namespace tidemark;

constexpr const char* kUsage =
    "usage: nbd_server_tool (--unix PATH | --tcp HOST:PORT) (--file F | --memory SIZE)\n"
    "                       [--read-only] [--direct] [--export NAME] [--description TEXT]\n"
    "                       [--threads N] [--busy-poll MICROSECONDS] [--without-io-uring]\n"
    "                       [--tls-dir DIR]: host.crt, host.key, ca.crt\n"
    "SIZE is in bytes, or with a suffix K, M, G.\n";

struct Arguments {
  NbdServerParameters server;
  FileDeviceParameters file;
  uint64_t memory_bytes = 0;
  NbdExport entry;
};

uint64_t parse_size(const char* text) {
  char* end = nullptr;
  const uint64_t value = std::strtoull(text, &end, 10);
  const std::string_view suffix(end);
  if (suffix == "K") return value << 10;
  if (suffix == "M") return value << 20;
  if (suffix == "G") return value << 30;
  return suffix.empty() ? value : 0;
}

void parse_tcp(std::string_view text, NbdServerParameters& server) {
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return;
  server.host = text.substr(0, colon);
  server.port = static_cast<uint16_t>(std::atoi(std::string(text.substr(colon + 1)).c_str()));
}

std::string content_of(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

void load_tls(const std::string& directory, NbdServerParameters& server) {
  server.tls = NbdTlsParameters{content_of(directory + "/host.crt"),
                                content_of(directory + "/host.key"),
                                content_of(directory + "/ca.crt"),
                                {}};
}

bool take_value(std::string_view name, const char* value, Arguments& arguments) {
  if (name == "--unix") return !(arguments.server.unix_path = value).empty();
  if (name == "--tcp") return parse_tcp(value, arguments.server), true;
  if (name == "--file") return !(arguments.file.path = value).empty();
  if (name == "--memory") return (arguments.memory_bytes = parse_size(value)) > 0;
  if (name == "--busy-poll") {
    arguments.server.busy_poll = std::chrono::microseconds(std::atoi(value));
    return true;
  }
  if (name == "--export") return arguments.entry.name = value, true;
  if (name == "--description") return arguments.entry.description = value, true;
  if (name == "--tls-dir") return load_tls(value, arguments.server), true;
  if (name == "--threads") {
    arguments.server.thread_count = static_cast<uint32_t>(std::atoi(value));
    return arguments.server.thread_count > 0;
  }
  return false;
}

bool parse(int argc, char** argv, Arguments& arguments) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view name(argv[i]);
    if (name == "--read-only") {
      arguments.entry.read_only = arguments.file.read_only = true;
    } else if (name == "--direct") {
      arguments.file.direct = true;
    } else if (name == "--without-io-uring") {
      arguments.file.engine = IoEngineKind::kThreads;
    } else if (i + 1 == argc || !take_value(name, argv[++i], arguments)) {
      return false;
    }
  }
  return arguments.file.path.empty() != (arguments.memory_bytes == 0);
}

int fail(const Status& status) {
  std::fprintf(stderr, "nbd_server_tool: %s\n", status.message().c_str());
  return 1;
}

int serve(Arguments& arguments) {
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGTERM);
  sigaddset(&ends, SIGINT);
  pthread_sigmask(SIG_BLOCK, &ends, nullptr);

  if (arguments.memory_bytes > 0) {
    arguments.entry.device = make_memory_device(arguments.memory_bytes);
  } else {
    auto device = open_file_device(arguments.file);
    if (!device.is_ok()) return fail(device.status());
    arguments.entry.device = std::move(device).value();
  }
  auto server = NbdServer::start(arguments.server);
  if (!server.is_ok()) return fail(server.status());
  if (Status status = server.value()->add_export(arguments.entry); !status.is_ok()) {
    return fail(status);
  }
  std::printf("listening on %s, engine %s\n", server.value()->address().c_str(),
              arguments.entry.device->traits().engine.c_str());
  std::fflush(stdout);
  int signal_number = 0;
  sigwait(&ends, &signal_number);
  server.value()->stop();
  const NbdServerStatistics statistics = server.value()->statistics();
  std::printf("%llu requests, %llu errors, %llu connections\n",
              static_cast<unsigned long long>(statistics.requests_total),
              static_cast<unsigned long long>(statistics.errors_total),
              static_cast<unsigned long long>(statistics.connections_total));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  if (!parse(argc, argv, arguments)) {
    std::fputs(kUsage, stderr);
    return 2;
  }
  return serve(arguments);
}
