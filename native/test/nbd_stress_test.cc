// All at once: eight connections at a tracked disk, checkpoints that come and go,
// exports that come and go, and a stop in the middle. For TSan above all.
#include <doctest/doctest.h>

#include <random>
#include <thread>

#include "device/memory_device.h"
#include "nbd_fixture.h"
#include "tracking/capture.h"
#include "tracking/checkpoint.h"
#include "tracking_support.h"

using namespace nbd_test;
using namespace tidemark;
using namespace tidemark::tracking_test;

namespace {

constexpr uint64_t kDiskBytes = 4 << 20;

// Sends what a busy guest sends, until the server hangs up. The error that a
// removed export has is the only one.
void work(RawClient client, uint64_t seed, std::atomic<uint64_t>& replies) {
  std::mt19937_64 random(seed);
  const bool extended = seed % 3 == 0;
  if (client.receive(18).size() < 18) return;
  std::string hello = u32(3) + option(extended ? OPT_EXTENDED_HEADERS : OPT_STRUCTURED_REPLY);
  hello += option(OPT_SET_META_CONTEXT, context_payload("disk", {"qemu:dirty-bitmap:live"}));
  if (!client.send(hello + option(OPT_GO, info_payload("disk")))) return;
  for (;;) {
    const uint64_t offset = random() % (kDiskBytes / 4096) * 4096;
    const uint64_t length = std::min(kDiskBytes - offset, (1 + random() % 40) * 4096);
    const uint16_t command = std::array{0, 1, 1, 3, 4, 6, 7, 0}[random() % 8];
    const bool is_write = command == CMD_WRITE;
    const bool is_flush = command == CMD_FLUSH;
    const std::string payload(is_write ? length : 0, 'w');
    const auto flags = static_cast<uint16_t>(is_write && extended ? FLAG_PAYLOAD_LEN : 0);
    const uint64_t at = is_flush ? 0 : offset;
    const uint64_t bytes = is_flush ? 0 : length;
    const std::string sent =
        extended ? extended_request(flags, command, 1, at, bytes, payload)
                 : request(flags, command, 1, at, static_cast<uint32_t>(bytes), payload);
    if (!client.send(sent)) return;
    char buffer[1 << 18];
    if (::recv(client.fd(), buffer, sizeof buffer, 0) <= 0) return;
    replies.fetch_add(1);
  }
}

// A server with one tracked disk, and the threads that work on it.
class Stress {
 public:
  explicit Stress(uint64_t round) : round_(round) {
    parameters_.unix_path = directory_.path() + "/nbd.sock";
    parameters_.thread_count = 3;
    parameters_.buffer_keep_time = std::chrono::milliseconds(1);
    parameters_.idle_limit = std::chrono::seconds(30);
    server_ = start_server(parameters_);
    REQUIRE(server_->add_export(entry_).is_ok());
  }

  void run() {
    std::vector<std::thread> clients;
    for (uint64_t i = 0; i < 8; ++i) clients.emplace_back([this, i] { connect_and_work(i); });
    std::thread checkpoints([this] { take_checkpoints(); });
    std::thread exports([this] { replace_export(); });
    while (replies_ < 2000) std::this_thread::yield();
    is_ending_ = true;
    exports.join();
    while (connecting_ > 0) std::this_thread::yield();
    server_->stop();
    for (std::thread& client : clients) client.join();
    checkpoints.join();
    CHECK(server_->statistics().connections_open == 0);
  }

 private:
  // Those whose export went connect again, while there is a server.
  void connect_and_work(uint64_t number) {
    for (uint64_t seed = round_ * 1000 + number;; seed += 8) {
      connecting_.fetch_add(1);
      if (is_ending_) return connecting_.fetch_sub(1), void();
      RawClient client("unix:" + parameters_.unix_path);
      connecting_.fetch_sub(1);
      work(std::move(client), seed, replies_);
    }
  }

  void take_checkpoints() {
    while (!is_ending_) {
      const auto outcome = try_checkpoint(disk_.device, slot_);
      if (!outcome.is_ok()) continue;  // writes did not end in time
      outcome.value().captures.at(0)->close();
      CHECK(disk_.device->commit(slot_).is_ok());
    }
  }

  void replace_export() {
    while (!is_ending_) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      CHECK(server_->remove_export("disk").is_ok());
      CHECK(server_->add_export(entry_).is_ok());
    }
  }

  const uint64_t round_;
  ScratchDirectory scratch_;
  const Disk disk_ = make_disk(scratch_, make_memory_device(kDiskBytes));
  const uint32_t slot_ = add_target(*disk_.device, Uuid::random());
  const NbdExport entry_{"disk", "a tracked disk", false, disk_.device};
  TemporaryDirectory directory_;
  NbdServerParameters parameters_;
  std::unique_ptr<NbdServer> server_;
  std::atomic<uint64_t> replies_{0};
  std::atomic<bool> is_ending_{false};
  std::atomic<int> connecting_{0};
};

}  // namespace

TEST_CASE("Eight connections, checkpoints, exports that go and a stop, all at once") {
  for (uint64_t round = 0; round < 4; ++round) Stress(round).run();
}
