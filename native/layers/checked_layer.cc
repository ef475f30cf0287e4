#include "layers/checked_layer.h"

#include <cassert>
#include <cerrno>
#include <cstring>
#include <new>

#include "device/file_device.h"
#include "layers/granule_checks.h"

namespace tidemark {

namespace {

// A read of all granules of which the parent wants a part. Deletes itself.
struct WidenedRead {
  WidenedRead(IoRequest& parent, const Layer& layer, const LayerExtent& extent,
              ExtentPart whole) noexcept
      : parent(parent),
        layer(layer),
        extent(extent),
        whole(whole),
        data(new (std::nothrow) std::byte[whole.end_bytes - whole.from_bytes]) {}

  std::span<const std::byte> content() const noexcept {
    return {data.get(), whole.end_bytes - whole.from_bytes};
  }

  IoRequest& parent;
  const Layer& layer;
  const LayerExtent extent;
  const ExtentPart whole;
  const std::unique_ptr<std::byte[]> data;
  IoRequest request;
};

int check(const Layer& layer, const LayerExtent& extent, uint64_t within_bytes,
          std::span<const std::byte> data) noexcept {
  return first_damaged_granule(layer, extent, within_bytes, data) ? EBADMSG : 0;
}

void finish_widened(IoRequest& /*request*/, void* context, uint64_t /*word*/, int error) noexcept {
  const std::unique_ptr<WidenedRead> read(static_cast<WidenedRead*>(context));
  IoRequest& parent = read->parent;
  const std::span<const std::byte> content = read->content();
  if (error == 0) error = check(read->layer, read->extent, read->whole.from_bytes, content);
  if (error == 0) {
    const uint64_t whole_offset_bytes = read->extent.disk_offset_bytes + read->whole.from_bytes;
    std::memcpy(parent.data, content.data() + (parent.offset_bytes - whole_offset_bytes),
                parent.length_bytes);
  }
  parent.complete(error);
}

void submit_widened(IoRequest& parent, const Layer& layer, const LayerExtent& extent,
                    ExtentPart whole, BlockDevice& file) noexcept {
  std::unique_ptr<WidenedRead> read(new (std::nothrow) WidenedRead(parent, layer, extent, whole));
  if (read == nullptr || read->data == nullptr) return parent.complete(ENOMEM);
  IoRequest& request = read->request;
  request.op = IoOp::kRead;
  request.offset_bytes = extent.file_offset_bytes + whole.from_bytes;
  request.length_bytes = whole.end_bytes - whole.from_bytes;
  request.data = read->data.get();
  request.push(finish_widened, read.release());
  file.submit(request);
}

}  // namespace

Result<std::unique_ptr<CheckedLayer>> CheckedLayer::open(std::shared_ptr<const Layer> layer) {
  FileDeviceParameters parameters;
  // The very file whose index is mapped, even when its name is gone by now.
  parameters.path = "/proc/self/fd/" + std::to_string(layer->fd());
  parameters.read_only = true;
  auto file = open_file_device(parameters);
  if (!file.is_ok()) return file.status();
  return std::unique_ptr<CheckedLayer>(new CheckedLayer(std::move(layer), std::move(file).value()));
}

void CheckedLayer::finish_whole(IoRequest& request, void* context, uint64_t disk_offset_bytes,
                                int error) noexcept {
  const Layer& layer = *static_cast<const CheckedLayer*>(context)->layer_;
  request.offset_bytes = disk_offset_bytes;
  if (error == 0) {
    const LayerExtent extent = layer.extent_at(layer.first_extent_past(disk_offset_bytes));
    error = check(layer, extent, disk_offset_bytes - extent.disk_offset_bytes,
                  {request.data, request.length_bytes});
  }
  request.complete(error);
}

void CheckedLayer::submit(IoRequest& request) noexcept {
  assert(request.op == IoOp::kRead);
  const LayerExtent extent = layer_->extent_at(layer_->first_extent_past(request.offset_bytes));
  assert(extent.disk_offset_bytes <= request.offset_bytes);
  assert(request.end_bytes() <= extent.disk_end_bytes());
  const uint64_t from_bytes = request.offset_bytes - extent.disk_offset_bytes;
  const ExtentPart part{from_bytes, from_bytes + request.length_bytes};
  const ExtentPart whole = whole_granules(*layer_, extent, part);
  if (whole != part) return submit_widened(request, *layer_, extent, whole, *file_);
  request.push(finish_whole, this, request.offset_bytes);
  request.offset_bytes = extent.file_offset_bytes + from_bytes;
  file_->submit(request);
}

}  // namespace tidemark
