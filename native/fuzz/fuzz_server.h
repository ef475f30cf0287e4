// FuzzServer: one connection of the real server, run on the calling thread over a
// socket pair; no threads, no clock, so that an input always does the same.
#pragma once

#include <deque>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "common/fd.h"
#include "device/block_device.h"
#include "nbd/connection.h"
#include "nbd/export_registry.h"
#include "nbd/loop_context.h"
#include "nbd/tls_settings.h"

namespace tidemark::fuzz {

// A disk in memory that keeps what it is asked until somebody says go, and then
// completes it in an order of its own; fails the test when a request is not valid.
class LateDevice final : public BlockDevice {
 public:
  LateDevice(uint64_t size_bytes, uint32_t minimum_block_bytes, bool is_late);

  uint64_t size_bytes() const noexcept override { return inner_->size_bytes(); }
  const DeviceTraits& traits() const noexcept override { return traits_; }
  void submit(IoRequest& request) noexcept override;
  std::vector<std::string> extent_contexts() const override;
  Status query_extents(std::string_view context, uint64_t offset_bytes, uint64_t length_bytes,
                       size_t max_extents, std::vector<DeviceExtent>& extents) override;

  bool go();  // completes one that is held; false: none

 private:
  const std::shared_ptr<BlockDevice> inner_;
  DeviceTraits traits_;
  const bool is_late_;
  std::deque<IoRequest*> held_;
  std::mt19937_64 random_{1};
};

class FuzzServer {
 public:
  struct Options {
    bool is_late = false;
    bool is_read_only = false;
    uint32_t minimum_block_bytes = 1;
    size_t piece_bytes = 1 << 20;     // a client's sends are cut into
    nbd::TlsSettings* tls = nullptr;  // set: required
  };
  explicit FuzzServer(const Options& options);

  // Has it read, whatever it makes of that.
  void send(std::string_view bytes);
  // What the server sent since the last time.
  std::string take_replies();
  std::string take_all() { return std::exchange(replies_, {}); }  // after finish()
  // Ends sending, and demands that the connection ends once all is answered.
  void finish();

 private:
  void turn();  // one round of the loop
  void receive();

  const Options options_;
  std::shared_ptr<LateDevice> device_;
  nbd::ExportRegistry exports_;
  UniqueFd client_fd_;
  std::unique_ptr<nbd::Connection> connection_;
  std::string replies_;
};

}  // namespace tidemark::fuzz
