// tidemark-fuse: an export of an NBD server at a Unix socket as one file, for a
// loop device to stand on where the kernel has no NBD client.
//
// A process of its own, because the kernel must get its answers whatever the
// server's process does: while that is gone, requests wait for the next one.
#include <getopt.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "common/io_flusher.h"
#include "device/nbd_device.h"
#include "fuse/disk_file.h"

namespace tidemark::fuse {

namespace {

constexpr uint64_t kUnflushedLimitBytes = 8 * 1024 * 1024;

struct Arguments {
  NbdDeviceParameters upstream;
  std::string mount_path;
};

bool parse(int argc, char** argv, Arguments& into) {
  static const option options[] = {
      {"socket", required_argument, nullptr, 's'},
      {"export", required_argument, nullptr, 'e'},
      {"mount", required_argument, nullptr, 'm'},
      {"connections", required_argument, nullptr, 'c'},
      {"reconnect-limit", required_argument, nullptr, 'r'},
      {nullptr, 0, nullptr, 0},
  };
  for (int found = 0; (found = ::getopt_long(argc, argv, "", options, nullptr)) != -1;) {
    switch (found) {
      case 's':
        into.upstream.unix_path = optarg;
        break;
      case 'e':
        into.upstream.export_name = optarg;
        break;
      case 'm':
        into.mount_path = optarg;
        break;
      case 'c':
        into.upstream.connection_count = static_cast<uint32_t>(std::strtoul(optarg, nullptr, 10));
        break;
      case 'r':
        into.upstream.reconnect_limit = std::chrono::seconds(std::strtoul(optarg, nullptr, 10));
        break;
      default:
        return false;
    }
  }
  return !into.upstream.unix_path.empty() && !into.mount_path.empty();
}

// Everything that the kernel must not wait for: reclaim, page faults, and being
// killed for memory's sake. Threads to come inherit the first.
Status protect_process() {
  std::ofstream("/proc/self/oom_score_adj") << "-1000";
  if (Status status = require_io_flushers(); !status.is_ok()) return status;
  return lock_process_memory();
}

Status run(const Arguments& arguments) {
  if (Status status = protect_process(); !status.is_ok()) return status;
  auto device = open_nbd_device(arguments.upstream);
  if (!device.is_ok()) return device.status();
  auto file = DiskFile::mount(*device.value(), arguments.mount_path);
  if (!file.is_ok()) return file.status();
  const int error = file.value()->serve();
  return error == 0 ? Status::ok() : Status::from_errno("Cannot serve the FUSE file", error);
}

}  // namespace

}  // namespace tidemark::fuse

int main(int argc, char** argv) {
  using namespace tidemark;
  std::signal(SIGPIPE, SIG_IGN);
  fuse::Arguments arguments;
  if (!fuse::parse(argc, argv, arguments)) {
    std::fprintf(stderr,
                 "usage: tidemark-fuse --socket PATH --mount FILE [--export NAME] "
                 "[--connections N] [--reconnect-limit SECONDS]\n");
    return 2;
  }
  const Status status = fuse::run(arguments);
  if (status.is_ok()) return 0;
  std::fprintf(stderr, "%s\n", status.message().c_str());
  return 1;
}
