#include "fuzz_server.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "device/memory_device.h"
#include "fuzz_target.h"

namespace tidemark::fuzz {

namespace {

constexpr uint64_t kDiskBytes = 1 << 20;
constexpr int kMaximumTurns = 1'000'000;

// Shared by all inputs, as a loop's is by all connections.
nbd::LoopContext& loop() {
  static auto* shared = [] {
    auto* context = new nbd::LoopContext;
    context->mailbox.adopt_thread();
    return context;
  }();
  return *shared;
}

}  // namespace

void demand(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "finding: %s\n", what);
  std::abort();
}

uint64_t requests_total() { return loop().requests_total.value(); }

LateDevice::LateDevice(uint64_t size_bytes, uint32_t minimum_block_bytes, bool is_late)
    : inner_(make_memory_device(size_bytes)), traits_(inner_->traits()), is_late_(is_late) {
  traits_.minimum_block_bytes = minimum_block_bytes;
  traits_.can_cache = true;
}

void LateDevice::submit(IoRequest& request) noexcept {
  const bool is_flush = request.op == IoOp::kFlush;
  demand(is_flush || (request.length_bytes > 0 && request.offset_bytes <= size_bytes() &&
                      request.length_bytes <= size_bytes() - request.offset_bytes),
         "a request beyond the disk");
  demand((request.offset_bytes | request.length_bytes) % traits_.minimum_block_bytes == 0,
         "a request that is not aligned");
  if (!is_late_) return inner_->submit(request);
  held_.push_back(&request);
}

std::vector<std::string> LateDevice::extent_contexts() const {
  return {"base:allocation", "qemu:dirty-bitmap:a", "qemu:dirty-bitmap:b"};
}

Status LateDevice::query_extents(std::string_view context, uint64_t offset_bytes,
                                 uint64_t length_bytes, size_t max_extents,
                                 std::vector<DeviceExtent>& extents) {
  if (context == "base:allocation") {
    return inner_->query_extents(context, offset_bytes, length_bytes, max_extents, extents);
  }
  for (uint64_t at = 0; at < length_bytes && extents.size() < max_extents; at += 512) {
    extents.push_back({512, static_cast<uint32_t>(at / 512 % 2)});
  }
  return Status::ok();
}

bool LateDevice::go() {
  if (held_.empty()) return false;
  const size_t index = random_() % held_.size();
  IoRequest& request = *held_[index];
  held_.erase(held_.begin() + static_cast<ptrdiff_t>(index));
  if (random_() % 16 == 0) {
    request.complete(random_() % 2 == 0 ? EIO : ENOSPC);
  } else {
    inner_->submit(request);
  }
  return true;
}

FuzzServer::FuzzServer(const Options& options) : options_(options) {
  device_ = std::make_shared<LateDevice>(kDiskBytes, options.minimum_block_bytes, options.is_late);
  for (const char* name : {"", "disk", "\xc3\xa9"}) {
    const auto status = exports_.add({name, "a disk", options.is_read_only, device_});
    demand(status.is_ok(), "the export is refused");
  }
  int ends[2];
  demand(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0,
         "no socket pair");
  client_fd_.reset(ends[0]);
  connection_ =
      std::make_unique<nbd::Connection>(1, UniqueFd(ends[1]), loop(), exports_, options.tls);
  connection_->start();
}

void FuzzServer::receive() {
  char buffer[65536];
  for (;;) {
    const ssize_t length = ::recv(client_fd_.get(), buffer, sizeof buffer, 0);
    if (length <= 0) return;
    replies_.append(buffer, static_cast<size_t>(length));
  }
}

void FuzzServer::turn() {
  loop().poller.dispatch(0);
  for (size_t i = 0; i < loop().dirty.size(); ++i) {
    loop().dirty[i]->is_dirty = false;
    loop().dirty[i]->pump();
  }
  loop().dirty.clear();
  device_->go();
  receive();
}

void FuzzServer::send(std::string_view bytes) {
  for (int turns = 0; !bytes.empty() && !connection_->is_closed(); ++turns) {
    demand(turns < kMaximumTurns, "the server takes no more");
    const ssize_t sent = ::send(client_fd_.get(), bytes.data(),
                                std::min(bytes.size(), options_.piece_bytes), MSG_NOSIGNAL);
    if (sent > 0) bytes.remove_prefix(static_cast<size_t>(sent));
    turn();
  }
}

std::string FuzzServer::take_replies() {
  turn();
  return std::exchange(replies_, {});
}

void FuzzServer::finish() {
  ::shutdown(client_fd_.get(), SHUT_WR);
  for (int turns = 0; !connection_->is_closed(); ++turns) {
    demand(turns < kMaximumTurns, "the connection does not end");
    turn();
  }
  receive();
  loop().dirty.clear();
  loop().closed.clear();
  connection_.reset();
}

}  // namespace tidemark::fuzz
