// nbd_load_tool: random 4 KiB requests to an NBD server by a client that takes
// less of the machine than the server does:
//   nbd_load_tool URI[,URI...] CONNECTIONS DEPTH READ_PERCENT SECONDS
// The connections take the exports in turn. A thread a connection. It takes all replies that are
// there in one receive and sends the requests that follow them in one send, so that a request costs
// it a fraction of what it costs fio's NBD engine (six system calls); what is measured is the
// server. Prints one JSON line.
#include <fcntl.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "common/nbd_wire.h"
#include "device/nbd_client_handshake.h"
#include "device/nbd_uri.h"

using namespace tidemark;

namespace {

using Clock = std::chrono::steady_clock;

constexpr uint32_t kBlockBytes = 4096;
constexpr size_t kBufferBytes = 1 << 20;
constexpr uint32_t kMaximumDepth = kBufferBytes / (2 * kBlockBytes);

struct Load {
  std::vector<NbdDeviceParameters> servers;
  uint32_t connections = 1;
  uint32_t depth = 1;
  uint32_t read_percent = 100;
  double seconds = 1;
};

[[noreturn]] void fail(const std::string& why) {
  std::fprintf(stderr, "nbd_load_tool: %s\n", why.c_str());
  std::exit(1);
}

class Connection {
 public:
  Connection(const Load& load, uint32_t seed) : load_(load), random_(seed) {
    const NbdPatience patience{Clock::now() + std::chrono::seconds(5)};
    const NbdDeviceParameters& server = load.servers[seed % load.servers.size()];
    Result<NbdClientSocket> socket = NbdClientSocket::connect(server, patience);
    if (!socket.is_ok()) fail(socket.status().message());
    const auto description = negotiate_nbd(socket.value(), server.export_name);
    if (!description.is_ok()) fail(description.status().message());
    block_count_ = description.value().size_bytes / kBlockBytes;
    if (block_count_ == 0) fail("the export is smaller than one request");
    fd_ = socket.value().take_fd();
    ::fcntl(fd_.get(), F_SETFL, ::fcntl(fd_.get(), F_GETFL) & ~O_NONBLOCK);
    for (uint32_t cookie = 0; cookie < load.depth; ++cookie) idle_.push_back(cookie);
    sent_at_.resize(load.depth);
  }

  void run(const std::atomic<bool>& ends) {
    while (!ends.load(std::memory_order_relaxed)) {
      send_requests();
      take_replies();
    }
    while (idle_.size() < load_.depth) take_replies();
    nbd::RequestHeader goodbye{};
    goodbye.magic = nbd::kRequestMagic;
    goodbye.command = static_cast<uint16_t>(nbd::Command::kDisconnect);
    std::memcpy(output_.get(), &goodbye, sizeof goodbye);
    send_all(sizeof goodbye);
  }

  const std::vector<float>& latencies_us() const { return latencies_us_; }

 private:
  void send_requests() {
    const Clock::time_point now = Clock::now();
    std::byte* to = output_.get();
    while (!idle_.empty()) {
      const uint64_t cookie = idle_.back();
      idle_.pop_back();
      sent_at_[cookie] = now;
      const bool is_read = random_() % 100 < load_.read_percent;
      nbd::RequestHeader header{};
      header.magic = nbd::kRequestMagic;
      header.command = static_cast<uint16_t>(is_read ? nbd::Command::kRead : nbd::Command::kWrite);
      header.cookie = cookie;
      header.offset_bytes = random_() % block_count_ * kBlockBytes;
      header.length_bytes = kBlockBytes;
      std::memcpy(to, &header, sizeof header);
      to += sizeof header;
      if (!is_read) to += kBlockBytes;  // whatever the buffer holds
    }
    send_all(static_cast<size_t>(to - output_.get()));
  }

  void send_all(size_t byte_count) {
    for (size_t at = 0; at < byte_count;) {
      const ssize_t sent = ::send(fd_.get(), output_.get() + at, byte_count - at, MSG_NOSIGNAL);
      if (sent <= 0) fail("the server closed the connection");
      at += static_cast<size_t>(sent);
    }
  }

  void take_replies() {
    const ssize_t count = ::recv(fd_.get(), input_.get() + held_, kBufferBytes - held_, 0);
    if (count <= 0) fail("the server closed the connection");
    held_ += static_cast<size_t>(count);
    const Clock::time_point now = Clock::now();
    size_t at = 0;
    while (const size_t reply_bytes = whole_reply(input_.get() + at, held_ - at, now)) {
      at += reply_bytes;
    }
    held_ -= at;
    std::memmove(input_.get(), input_.get() + at, held_);
  }

  // 0: not all of it is there.
  size_t whole_reply(const std::byte* from, size_t available, Clock::time_point now) {
    if (available < sizeof(nbd::SimpleReply)) return 0;
    const auto simple = nbd::load_struct<nbd::SimpleReply>(from);
    if (simple.magic == nbd::kSimpleReplyMagic) {
      if (simple.error != 0) fail("the server answered with an error");
      done(simple.cookie, now);
      return sizeof simple;
    }
    if (simple.magic != nbd::kStructuredReplyMagic) fail("that is not a reply");
    if (available < sizeof(nbd::StructuredChunk)) return 0;
    const auto chunk = nbd::load_struct<nbd::StructuredChunk>(from);
    if (available < sizeof chunk + chunk.length_bytes) return 0;
    if ((chunk.type & 0x8000) != 0) fail("the server answered with an error");
    if ((chunk.flags & nbd::kChunkDone) != 0) done(chunk.cookie, now);
    return sizeof chunk + chunk.length_bytes;
  }

  void done(uint64_t cookie, Clock::time_point now) {
    if (cookie >= sent_at_.size()) fail("the server answered what nobody asked");
    const std::chrono::duration<float, std::micro> latency = now - sent_at_[cookie];
    latencies_us_.push_back(latency.count());
    idle_.push_back(static_cast<uint32_t>(cookie));
  }

  const Load& load_;
  std::minstd_rand random_;
  UniqueFd fd_;
  uint64_t block_count_ = 0;
  std::vector<uint32_t> idle_;  // cookies without a request under way
  std::vector<Clock::time_point> sent_at_;
  std::unique_ptr<std::byte[]> output_{new std::byte[kBufferBytes]()};
  std::unique_ptr<std::byte[]> input_{new std::byte[kBufferBytes]};
  size_t held_ = 0;  // bytes of a reply that is not whole yet
  std::vector<float> latencies_us_;
};

bool parse(int argc, char** argv, Load& load) {
  if (argc != 6) return false;
  std::istringstream uris(argv[1]);
  for (std::string uri; std::getline(uris, uri, ',');) {
    Result<NbdDeviceParameters> server = parse_nbd_uri(uri);
    if (!server.is_ok()) fail(server.status().message());
    load.servers.push_back(server.value());
  }
  load.connections = static_cast<uint32_t>(std::atoi(argv[2]));
  load.depth = static_cast<uint32_t>(std::atoi(argv[3]));
  load.read_percent = static_cast<uint32_t>(std::atoi(argv[4]));
  load.seconds = std::atof(argv[5]);
  return !load.servers.empty() && load.connections > 0 && load.depth > 0 &&
         load.depth <= kMaximumDepth && load.read_percent <= 100 && load.seconds > 0;
}

void report(std::vector<float>& latencies_us, double elapsed_seconds) {
  if (latencies_us.empty()) fail("no request was answered");
  std::sort(latencies_us.begin(), latencies_us.end());
  double sum_us = 0;
  for (const float latency_us : latencies_us) sum_us += latency_us;
  const size_t count = latencies_us.size();
  std::printf("{\"requests\":%zu,\"iops\":%.0f,\"mean_us\":%.2f,\"p50_us\":%.2f,\"p99_us\":%.2f}\n",
              count, static_cast<double>(count) / elapsed_seconds,
              sum_us / static_cast<double>(count), static_cast<double>(latencies_us[count / 2]),
              static_cast<double>(latencies_us[count * 99 / 100]));
}

}  // namespace

int main(int argc, char** argv) {
  Load load;
  if (!parse(argc, argv, load)) {
    std::fputs("usage: nbd_load_tool URI[,URI...] CONNECTIONS DEPTH READ_PERCENT SECONDS\n",
               stderr);
    return 2;
  }
  std::vector<std::unique_ptr<Connection>> connections;
  for (uint32_t i = 0; i < load.connections; ++i) {
    connections.push_back(std::make_unique<Connection>(load, i + 1));
  }
  std::atomic<bool> ends{false};
  std::vector<std::thread> threads;
  const Clock::time_point start = Clock::now();
  for (const auto& connection : connections) {
    threads.emplace_back([&connection, &ends] { connection->run(ends); });
  }
  std::this_thread::sleep_for(std::chrono::duration<double>(load.seconds));
  ends.store(true, std::memory_order_relaxed);
  for (std::thread& thread : threads) thread.join();
  const double elapsed_seconds = std::chrono::duration<double>(Clock::now() - start).count();
  std::vector<float> latencies_us;
  for (const auto& connection : connections) {
    latencies_us.insert(latencies_us.end(), connection->latencies_us().begin(),
                        connection->latencies_us().end());
  }
  report(latencies_us, elapsed_seconds);
  return 0;
}
