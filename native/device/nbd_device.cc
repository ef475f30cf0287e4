#include "device/nbd_device.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <system_error>
#include <thread>

#include "device/nbd_client_loop.h"
#include "device/nbd_uri.h"

namespace tidemark {

namespace {

// How long an extent query may hold up its caller.
constexpr std::chrono::milliseconds kExtentLimit{1000};

DeviceTraits traits_of(const NbdExportDescription& description, bool read_only) {
  DeviceTraits traits;
  traits.minimum_block_bytes = description.minimum_block_bytes;
  traits.preferred_block_bytes = description.preferred_block_bytes;
  traits.read_only = read_only;
  traits.rotational = description.has(nbd::kFlagRotational);
  traits.fast_zero =
      description.has(nbd::kFlagSendWriteZeroes) && description.has(nbd::kFlagSendFastZero);
  traits.trim_reads_zero = traits.fast_zero;
  traits.can_flush = description.has(nbd::kFlagSendFlush);
  traits.engine = "nbd";
  return traits;
}

// The export's name at its server's address: all that an export has of an identity.
std::string identity_of(const NbdDeviceParameters& parameters) {
  const std::string server = parameters.unix_path.empty()
                                 ? parameters.host + ":" + std::to_string(parameters.port)
                                 : parameters.unix_path;
  return "nbd=" + server + "/" + parameters.export_name;
}

class NbdDeviceImpl final : public NbdDevice {
 public:
  NbdDeviceImpl(const NbdDeviceParameters& parameters, std::unique_ptr<NbdClientSession> session)
      : identity_(identity_of(parameters)),
        size_bytes_(session->description().size_bytes),
        traits_(traits_of(session->description(), parameters.read_only)),
        loop_(std::make_shared<NbdClientLoop>(parameters, std::move(session))) {}
  ~NbdDeviceImpl() override;

  Status start();

  uint64_t size_bytes() const noexcept override { return size_bytes_; }
  const DeviceTraits& traits() const noexcept override { return traits_; }
  void submit(IoRequest& request) noexcept override;
  Status query_extents(std::string_view context, uint64_t offset_bytes, uint64_t length_bytes,
                       size_t max_extents, std::vector<DeviceExtent>& extents) override;
  uint64_t loss_count() const noexcept override { return loop_->loss_count(); }
  void give_up() noexcept override { loop_->inbox().give_up(); }
  Result<BackingFacts> facts() const override { return BackingFacts{identity_, 0}; }
  NbdUpstreamStatus upstream_status() const override { return loop_->status(); }

 private:
  bool is_inside(const IoRequest& request) const noexcept;

  const std::string identity_;
  const uint64_t size_bytes_;
  const DeviceTraits traits_;
  // The thread holds it too: a completion on it may destroy the device.
  const std::shared_ptr<NbdClientLoop> loop_;
  std::thread thread_;
};

Status NbdDeviceImpl::start() {
  if (!loop_->inbox().is_open()) return Status::from_errno("cannot make an eventfd", errno);
  try {
    thread_ = std::thread([loop = loop_] { loop->run(); });
  } catch (const std::system_error& error) {
    return Status::from_errno("cannot start a thread", error.code().value());
  }
  return Status::ok();
}

NbdDeviceImpl::~NbdDeviceImpl() {
  loop_->inbox().stop();
  if (!thread_.joinable()) return;
  if (thread_.get_id() == std::this_thread::get_id()) {
    thread_.detach();
  } else {
    thread_.join();
  }
}

bool NbdDeviceImpl::is_inside(const IoRequest& request) const noexcept {
  if (request.op == IoOp::kFlush) return true;
  const uint64_t step_mask = traits_.minimum_block_bytes - 1;
  return request.offset_bytes <= size_bytes_ &&
         request.length_bytes <= size_bytes_ - request.offset_bytes &&
         ((request.offset_bytes | request.length_bytes) & step_mask) == 0;
}

void NbdDeviceImpl::submit(IoRequest& request) noexcept {
  if (traits_.read_only && request.is_write_class()) return request.complete(EPERM);
  if (!is_inside(request)) return request.complete(EINVAL);
  loop_->inbox().post(request);
}

Status NbdDeviceImpl::query_extents(std::string_view context, uint64_t offset_bytes,
                                    uint64_t length_bytes, size_t max_extents,
                                    std::vector<DeviceExtent>& extents) {
  // On the device's own thread nobody would ever answer.
  const bool is_own_thread = thread_.get_id() == std::this_thread::get_id();
  if (context != "base:allocation" || max_extents == 0 || length_bytes == 0 || is_own_thread) {
    return BlockDevice::query_extents(context, offset_bytes, length_bytes, max_extents, extents);
  }
  auto query = std::make_shared<NbdExtentQuery>();
  query->offset_bytes = offset_bytes;
  query->length_bytes = length_bytes;
  query->wants_one = max_extents == 1;
  loop_->inbox().post(query);
  const std::vector<DeviceExtent> found = query->wait(kExtentLimit);
  if (found.empty()) {
    return BlockDevice::query_extents(context, offset_bytes, length_bytes, max_extents, extents);
  }
  const auto count = static_cast<ptrdiff_t>(std::min(found.size(), max_extents));
  extents.insert(extents.end(), found.begin(), found.begin() + count);
  return Status::ok();
}

Status name_upstream(const NbdDeviceParameters& parameters, const Status& status) {
  return {status.code(),
          "Cannot open " + nbd_uri_of(parameters) + ": because " + status.message() + ".",
          status.sys_errno()};
}

}  // namespace

Result<std::shared_ptr<NbdDevice>> open_nbd_device(const NbdDeviceParameters& parameters) {
  const NbdPatience patience{std::chrono::steady_clock::now() + parameters.connect_limit, -1};
  auto session =
      NbdClientSession::open(parameters, std::max(parameters.connection_count, 1U), patience);
  if (!session.is_ok()) return name_upstream(parameters, session.status());
  if (!parameters.read_only && session.value()->description().has(nbd::kFlagReadOnly)) {
    return name_upstream(parameters, {ErrorCode::kReadOnly, "the export is read-only"});
  }
  auto device = std::make_shared<NbdDeviceImpl>(parameters, std::move(session.value()));
  if (Status status = device->start(); !status.is_ok()) return name_upstream(parameters, status);
  return std::shared_ptr<NbdDevice>(std::move(device));
}

}  // namespace tidemark
