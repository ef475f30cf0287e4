// LayeredDevice: any recovery point as a disk, at once, whatever its size.
//
// A read takes each byte from the newest place that has it: the scratch file
// (what was written through this device), the layers from new to old, the base.
// Writes go to the scratch alone, so a point that is kept never changes. The
// scratch is a sparse file of the disk's size with an index of its own beside
// it (data before index on flush), so that a served disk survives a restart.
// Bytes beyond the base's end read as zeroes.
//
// A fold (fold.h) turns the base into the disk while it is in use. Then the base
// is to the disk what the scratch was, with the fold's marks for an index: reads
// look there first, writes go there, and the scratch is one more thing below that
// does not change. Once all is folded, requests go straight to the base.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>

#include "device/block_device.h"
#include "layers/disk_content.h"
#include "layers/layer_stack.h"
#include "layers/scratch_files.h"

namespace tidemark {

struct FileIdentity {
  dev_t device = 0;
  ino_t inode = 0;
  bool operator==(const FileIdentity&) const = default;
};

class LayeredDevice final : public BlockDevice {
 public:
  // Without a scratch it is read-only. `base_path` is where the base lies, if it does.
  LayeredDevice(uint64_t size_bytes, std::unique_ptr<LayerStack> below, OpenScratch scratch,
                std::string base_path);

  uint64_t size_bytes() const noexcept override { return size_bytes_; }
  const DeviceTraits& traits() const noexcept override { return traits_; }
  void submit(IoRequest& request) noexcept override;
  Status query_extents(std::string_view context, uint64_t offset_bytes, uint64_t length_bytes,
                       size_t max_extents, std::vector<DeviceExtent>& extents) override;

  const BlockDevice& below() const noexcept { return below_->base(); }
  const ContentSource& scratch_content() const noexcept { return opened_.content; }
  const OpenScratch& scratch() const noexcept { return scratch_; }
  const std::string& base_path() const noexcept { return base_path_; }
  // Whether the file there is its base, which may have another name by now; any, if it has none.
  bool is_base(const std::string& path) const noexcept;

  // The fold's side; one thread at a time.
  bool is_folding() const noexcept { return base_ != nullptr; }
  Scratch& folded_base() noexcept { return *base_; }
  // Changes go to `base` from now on. Waits until those under way have ended.
  void start_folding(std::unique_ptr<Scratch> base);
  // A flush need not cover the scratch any more.
  void scratch_is_durable() noexcept { is_scratch_durable_.store(true); }
  // All is in the base, durably.
  void finish_folding();

  // One fold at a time. False: there is one.
  bool claim_fold() noexcept { return !has_fold_.exchange(true); }
  void release_fold() noexcept { has_fold_.store(false); }

 private:
  // Where reads look and where changes go, at one time.
  struct Route {
    DiskContent content;
    Scratch* scratch = nullptr;
    bool is_folding = false;     // the scratch is the base
    BlockDevice* raw = nullptr;  // all goes there
  };

  const Route& route() const noexcept { return *route_.load(std::memory_order_acquire); }
  void switch_to(Scratch& from, const Route& to);
  void flush(IoRequest& request, const Route& route) noexcept;
  Result<DeviceExtent> extent_at(const Route& route, uint64_t offset_bytes,
                                 uint64_t max_bytes) const;

  const uint64_t size_bytes_;
  const std::unique_ptr<LayerStack> below_;
  const OpenScratch scratch_;
  const std::string base_path_;
  const std::optional<FileIdentity> base_file_;
  const Route opened_;
  DeviceTraits traits_;

  // Made before route_ says so, and never changed.
  std::unique_ptr<Scratch> base_;
  std::optional<Route> folding_;
  std::optional<Route> folded_;

  std::atomic<const Route*> route_;
  std::atomic<bool> is_scratch_durable_{false};
  std::atomic<bool> has_fold_{false};
};

}  // namespace tidemark
