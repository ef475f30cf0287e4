// StressGuest: one busy client of a server that comes and goes, and what each of
// its blocks may hold after that.
//
// It owns every kGuests-th stripe of the disk, so that its own history alone says
// what they hold. A batch of requests is in flight at a time, each on a stripe of
// its own, for overlapping ones have no order. What was not answered when the
// connection went has either happened or not: the server finishes what is in
// flight before it hangs up.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <atomic>
#include <mutex>
#include <numeric>
#include <thread>

#include "nbd_raw_client.h"
#include "tls_client.h"
#include "tracking_load.h"

namespace nbd_test {

using tidemark::tracking_test::BlockContent;
using tidemark::tracking_test::kBlock;

inline constexpr uint64_t kGuests = 8;
inline constexpr uint64_t kStripeBlocks = 16;
inline constexpr uint64_t kRowBytes = kGuests * kStripeBlocks * kBlock;  // one stripe each

inline uint64_t owner_of(uint64_t block) { return block / kStripeBlocks % kGuests; }

// What all threads of one run share.
struct StressScene {
  std::string socket_path;
  const TlsClientOptions* tls = nullptr;  // null: in the clear
  std::atomic<bool> is_ending{false};
  std::atomic<uint64_t> replies{0};
  std::atomic<uint64_t> sessions{0};

  void fault(const std::string& text) {
    const std::lock_guard lock(mutex);
    if (faults.size() < 5) faults.push_back(text);
  }
  std::mutex mutex;
  std::vector<std::string> faults;
};

class StressGuest {
 public:
  StressGuest(StressScene& scene, uint64_t number, uint64_t seed)
      : scene_(scene), number_(number), random_(seed * kGuests + number) {}

  // Until the scene ends and the server has hung up.
  void run() {
    while (!scene_.is_ending) {
      auto client = connect();
      style_ = static_cast<Style>(random_() % 3);
      if (client != nullptr && begin(*client)) {
        scene_.sessions.fetch_add(1);
        while (exchange(*client)) continue;
      } else {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
    }
  }

  // The number of a write (0: zeroes) that `block` of this guest may hold now.
  bool may_hold(uint64_t block, uint64_t write) const {
    const auto found = possible_.find(block);
    if (found == possible_.end()) return write == 0;
    return std::find(found->second.begin(), found->second.end(), write) != found->second.end();
  }

 private:
  enum Style { kSimple, kStructured, kExtended };
  static constexpr uint32_t kShutDown = 108;  // the one error that a guest may see
  static constexpr uint16_t kCanCache = 1 << 10;

  struct Operation {
    uint16_t command = CMD_FLUSH;
    uint16_t flags = 0;
    uint64_t first_block = 0;
    uint64_t block_count = 0;
    uint64_t write = 0;  // what the blocks hold afterwards
    bool is_done = false;
    uint32_t error = 0;
    std::string content;

    bool is_change() const {
      return command == CMD_WRITE || command == CMD_WRITE_ZEROES || command == CMD_TRIM;
    }
  };

  void fault(const std::string& text) {
    scene_.fault("guest " + std::to_string(number_) + ": " + text);
  }

  // -- Getting there; null or false when the server goes meanwhile --------------
  std::unique_ptr<RawClient> connect() const {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, scene_.socket_path.c_str(), scene_.socket_path.size() + 1);
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    auto client = std::make_unique<RawClient>(fd);
    const bool is_connected =
        ::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
    return is_connected ? std::move(client) : nullptr;
  }

  bool begin(RawClient& client) {
    if (client.receive(18).size() < 18 || !client.send(u32(3))) return false;
    if (scene_.tls != nullptr && !begin_tls(client)) return false;
    if (style_ == kExtended && !ask(client, OPT_EXTENDED_HEADERS)) return false;
    if (style_ == kStructured && !ask(client, OPT_STRUCTURED_REPLY)) return false;
    const auto contexts = context_payload("disk", {"base:allocation", "qemu:dirty-bitmap:live"});
    if (style_ != kSimple && !ask(client, OPT_SET_META_CONTEXT, contexts)) return false;
    return ask(client, OPT_GO, info_payload("disk"));
  }

  bool begin_tls(RawClient& client) {
    if (!ask(client, OPT_STARTTLS)) return false;
    auto inner = std::make_unique<TlsClient>(client.fd(), *scene_.tls);
    if (!inner->shake_hands()) return false;
    client.go_inside(std::move(inner));
    return true;
  }

  // All answers to one option. The export may be away; nothing else is refused.
  bool ask(RawClient& client, uint32_t number_of_option, const std::string& payload = {}) {
    if (!client.send(option(number_of_option, payload))) return false;
    for (;;) {
      const std::string header = client.receive(20);
      if (header.size() < 20) return false;
      const uint64_t type = number(header, 12, 4);
      const uint64_t length = number(header, 16, 4);
      const std::string answer = client.receive(length);
      if (answer.size() < length) return false;
      if (type == REP_ACK) return true;
      if (type == REP_INFO && number(answer, 0, 2) == 0) take_info(answer);
      if (type < 0x80000000) continue;
      if (type != REP_ERR_UNKNOWN) fault("option " + std::to_string(number_of_option) + " refused");
      return false;
    }
  }

  void take_info(const std::string& info) {
    const uint64_t size_bytes = number(info, 2, 8);
    if (size_bytes < size_bytes_) fault("the disk has shrunk");
    size_bytes_ = size_bytes;
    can_cache_ = (number(info, 10, 2) & kCanCache) != 0;
  }

  // -- A batch; false when the connection has ended -----------------------------
  bool exchange(RawClient& client) {
    choose_batch();
    std::string bytes;
    for (size_t i = 0; i < batch_.size(); ++i) bytes += bytes_of(batch_[i], batch_cookie_ + i);
    bool is_open = client.send(bytes);
    // A guest that is killed; nothing of it may come later.
    const bool is_harmless = std::none_of(batch_.begin(), batch_.end(),
                                          [](const Operation& each) { return each.is_change(); });
    if (is_harmless && random_() % 16 == 0) is_open = false;
    while (is_open && answered_count_ < batch_.size()) is_open = receive_reply(client);
    for (const Operation& operation : batch_) settle(operation);
    batch_cookie_ += 256;
    return is_open;
  }

  void choose_batch() {
    std::vector<uint64_t> rows(size_bytes_ / kRowBytes);
    std::iota(rows.begin(), rows.end(), 0);
    std::shuffle(rows.begin(), rows.end(), random_);
    batch_.clear();
    answered_count_ = 0;
    for (uint64_t i = 0; i < std::min<uint64_t>(rows.size(), 1 + random_() % 8); ++i) {
      batch_.push_back(choose(rows[i]));
    }
  }

  Operation choose(uint64_t row) {
    constexpr std::array<uint16_t, 10> kCommands{CMD_READ,  CMD_READ,         CMD_WRITE, CMD_WRITE,
                                                 CMD_WRITE, CMD_WRITE_ZEROES, CMD_TRIM,  CMD_FLUSH,
                                                 CMD_CACHE, CMD_BLOCK_STATUS};
    Operation chosen;
    chosen.command = kCommands[random_() % kCommands.size()];
    if (chosen.command == CMD_CACHE && !can_cache_) chosen.command = CMD_READ;
    if (chosen.command == CMD_BLOCK_STATUS && style_ == kSimple) chosen.command = CMD_WRITE;
    if (chosen.command == CMD_FLUSH) return chosen;
    const uint64_t within = random_() % kStripeBlocks;
    chosen.first_block = (row * kGuests + number_) * kStripeBlocks + within;
    chosen.block_count = 1 + random_() % (kStripeBlocks - within);
    if (chosen.is_change() && random_() % 8 == 0) chosen.flags |= FLAG_FUA;
    if (chosen.command == CMD_WRITE_ZEROES && random_() % 4 == 0) chosen.flags |= FLAG_NO_HOLE;
    if (chosen.command == CMD_WRITE) {
      chosen.write = ++last_write_;
      if (style_ == kExtended) chosen.flags |= FLAG_PAYLOAD_LEN;
    }
    if (chosen.command == CMD_READ) chosen.content.assign(chosen.block_count * kBlock, '\xff');
    return chosen;
  }

  std::string bytes_of(const Operation& operation, uint64_t cookie) const {
    std::string payload(operation.command == CMD_WRITE ? operation.block_count * kBlock : 0, '\0');
    for (uint64_t i = 0; i * kBlock < payload.size(); ++i) {
      BlockContent{0, operation.first_block + i, number_, operation.write}.store(
          reinterpret_cast<std::byte*>(&payload[i * kBlock]));
    }
    const uint64_t offset = operation.first_block * kBlock;
    const uint64_t length = operation.block_count * kBlock;
    return style_ == kExtended ? extended_request(operation.flags, operation.command, cookie,
                                                  offset, length, payload)
                               : request(operation.flags, operation.command, cookie, offset,
                                         static_cast<uint32_t>(length), payload);
  }

  // One simple reply or one chunk.
  bool receive_reply(RawClient& client) {
    std::string header = client.receive(16);
    if (header.size() < 16) return false;
    const uint64_t magic = number(header, 0, 4);
    const bool is_simple = magic == 0x67446698;
    Operation* const operation = operation_of(number(header, 8, 8));
    if (operation == nullptr) return false;
    if (is_simple) return receive_simple(client, header, *operation);
    if (magic != (style_ == kExtended ? 0x6e8a278c : 0x668e33ef)) return fault("magic"), false;
    const size_t more = style_ == kExtended ? 16 : 4;
    header += client.receive(more);
    if (header.size() < 16 + more) return false;
    const uint64_t length = style_ == kExtended ? number(header, 24, 8) : number(header, 16, 4);
    const std::string payload = client.receive(length);
    if (payload.size() < length) return false;
    take_chunk(*operation, number(header, 6, 2), payload);
    if ((number(header, 4, 2) & 1) != 0) finish(*operation);
    return true;
  }

  Operation* operation_of(uint64_t cookie) {
    const uint64_t index = cookie - batch_cookie_;
    if (index < batch_.size() && !batch_[index].is_done) return &batch_[index];
    fault("a reply to what was not asked");
    return nullptr;
  }

  bool receive_simple(RawClient& client, const std::string& header, Operation& operation) {
    operation.error = static_cast<uint32_t>(number(header, 4, 4));
    if (operation.command == CMD_READ && operation.error == 0) {
      const size_t length = operation.content.size();
      operation.content = client.receive(length);
      if (operation.content.size() < length) return false;
    }
    finish(operation);
    return true;
  }

  void take_chunk(Operation& operation, uint64_t type, const std::string& payload) {
    if ((type & 0x8000) != 0) {
      operation.error = static_cast<uint32_t>(number(payload, 0, 4));
    } else if (type == 1 || type == 2) {
      const uint64_t at = number(payload, 0, 8) - operation.first_block * kBlock;
      const std::string data =
          type == 1 ? payload.substr(8) : std::string(number(payload, 8, 4), '\0');
      const uint64_t size = operation.content.size();
      if (at > size || data.size() > size - at) return fault("data of another place");
      operation.content.replace(at, data.size(), data);
    }
  }

  void finish(Operation& operation) {
    operation.is_done = true;
    ++answered_count_;
    scene_.replies.fetch_add(1);
    if (operation.error != 0 && operation.error != kShutDown) {
      fault("command " + std::to_string(operation.command) + ": error " +
            std::to_string(operation.error));
    }
  }

  // -- What is known after it ---------------------------------------------------
  void settle(const Operation& operation) {
    const bool is_certain = operation.is_done && operation.error == 0;
    for (uint64_t i = 0; i < operation.block_count; ++i) {
      const uint64_t block = operation.first_block + i;
      if (operation.is_change()) {
        std::vector<uint64_t>& writes = possible_.try_emplace(block, 1, 0).first->second;
        if (is_certain) writes.clear();
        writes.push_back(operation.write);
      } else if (operation.command == CMD_READ && is_certain) {
        check(block, &operation.content[i * kBlock]);
      }
    }
  }

  void check(uint64_t block, const char* content) {
    const auto write =
        BlockContent::number_in(reinterpret_cast<const std::byte*>(content), 0, block, number_);
    if (write && may_hold(block, *write)) return;
    fault("block " + std::to_string(block) + " was read as " +
          (write ? "write " + std::to_string(*write) : "something torn"));
  }

  StressScene& scene_;
  const uint64_t number_;
  std::mt19937_64 random_;
  Style style_ = kSimple;
  uint64_t size_bytes_ = 0;
  bool can_cache_ = false;
  std::vector<Operation> batch_;
  uint64_t batch_cookie_ = 0;
  size_t answered_count_ = 0;
  uint64_t last_write_ = 0;
  std::map<uint64_t, std::vector<uint64_t>> possible_;  // by block; none: zeroes
};

}  // namespace nbd_test
