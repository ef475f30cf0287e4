#include "layers/fold.h"

#include "common/failpoint.h"
#include "device/shrinkable_device.h"
#include "device/sync_io.h"
#include "layers/fold_files.h"

namespace tidemark {

namespace {

constexpr uint64_t kFinishStepBytes = 16 * 1024 * 1024;

Status check(const LayeredDevice& device, const std::string& base_path) {
  if (device.scratch().scratch == nullptr) {
    return {ErrorCode::kReadOnly, "Cannot fold the disk: because it is open for reading only."};
  }
  if (base_path.empty() || !device.is_base(base_path)) {
    return {ErrorCode::kInvalidArgument, "Cannot fold the disk into \"" + base_path +
                                             "\": because its base is \"" + device.base_path() +
                                             "\". Name that one."};
  }
  return Status::ok();
}

// What the scratch holds is flushed before the switch, so that little is left after it.
Status begin(LayeredDevice& device, const std::string& base_path) {
  if (Status status = flush_sync(device); !status.is_ok()) return status;
  auto base = begin_fold_files(device.scratch(), base_path, !device.base_path().empty());
  if (!base.is_ok()) return base.status();
  device.start_folding(std::move(base).value());
  return Status::ok();
}

// After the switch nothing is added to it any more.
Status settle_scratch(LayeredDevice& device) {
  Status status = flush_sync(device);
  if (status.is_ok()) device.scratch_is_durable();
  return status;
}

Status open_claimed(LayeredDevice& device, const std::string& base_path) {
  if (!device.is_folding()) {
    if (Status status = begin(device, base_path); !status.is_ok()) return status;
  }
  return settle_scratch(device);
}

}  // namespace

Fold::Fold(std::shared_ptr<LayeredDevice> device)
    : device_(std::move(device)),
      copier_(device_->scratch_content(), device_->below(), device_->folded_base()) {}

Fold::~Fold() { device_->release_fold(); }

Result<std::unique_ptr<Fold>> Fold::open(std::shared_ptr<LayeredDevice> device,
                                         const std::string& base_path) {
  if (Status status = check(*device, base_path); !status.is_ok()) return status;
  if (!device->claim_fold()) {
    return Status{ErrorCode::kInUse,
                  "Cannot fold the disk: because it is being folded. Wait for that to end.", EBUSY};
  }
  if (Status status = open_claimed(*device, base_path); !status.is_ok()) {
    device->release_fold();
    return status;
  }
  return std::unique_ptr<Fold>(new Fold(std::move(device)));
}

Result<bool> Fold::step(uint64_t max_bytes) { return copier_.step(max_bytes); }

Status Fold::finish() {
  copier_.rewind();
  for (bool more = true; more;) {
    const auto step = copier_.step(kFinishStepBytes);
    if (!step.is_ok()) return step.status();
    more = step.value();
  }
  if (Status status = flush_sync(*device_); !status.is_ok()) return status;
  failpoint("fold.all_marked");
  BlockDevice& base = device_->folded_base().data();
  auto* shrinkable = dynamic_cast<ShrinkableDevice*>(&base);
  if (shrinkable != nullptr && base.size_bytes() > device_->size_bytes()) {
    if (Status status = shrinkable->shrink(device_->size_bytes()); !status.is_ok()) return status;
  }
  failpoint("fold.finished");
  device_->finish_folding();
  return Status::ok();
}

}  // namespace tidemark
