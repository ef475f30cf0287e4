#include "device/sync_io.h"

#include <semaphore>

namespace tidemark {

namespace {

struct Waiter {
  std::binary_semaphore completed{0};
  int error = 0;
};

void wake(IoRequest& /*request*/, void* context, uint64_t /*word*/, int error) noexcept {
  auto* waiter = static_cast<Waiter*>(context);
  waiter->error = error;
  waiter->completed.release();
}

Status run(BlockDevice& device, IoOp op, uint64_t offset_bytes, uint64_t length_bytes,
           std::byte* data, uint32_t flags, const char* what) {
  if (length_bytes == 0 && op != IoOp::kFlush) return Status::ok();
  IoRequest request;
  request.op = op;
  request.offset_bytes = offset_bytes;
  request.length_bytes = length_bytes;
  request.data = data;
  request.flags = flags;
  const int error = submit_and_wait(device, request);
  return error == 0 ? Status::ok() : Status::from_errno(what, error);
}

}  // namespace

int wait_for(IoRequest& request, const std::function<void(IoRequest&)>& submit) {
  Waiter waiter;
  request.push(wake, &waiter);
  submit(request);
  waiter.completed.acquire();
  return waiter.error;
}

int submit_and_wait(BlockDevice& device, IoRequest& request) noexcept {
  return wait_for(request, [&device](IoRequest& each) { device.submit(each); });
}

Status read_sync(BlockDevice& device, uint64_t offset_bytes, std::span<std::byte> into) {
  return run(device, IoOp::kRead, offset_bytes, into.size(), into.data(), 0, "cannot read");
}

Status write_sync(BlockDevice& device, uint64_t offset_bytes, std::span<const std::byte> from,
                  uint32_t flags) {
  // A write does not modify its source; IoRequest has one pointer for both ways.
  auto* data = const_cast<std::byte*>(from.data());
  return run(device, IoOp::kWrite, offset_bytes, from.size(), data, flags, "cannot write");
}

Status flush_sync(BlockDevice& device) {
  return run(device, IoOp::kFlush, 0, 0, nullptr, 0, "cannot flush");
}

Status trim_sync(BlockDevice& device, uint64_t offset_bytes, uint64_t length_bytes) {
  return run(device, IoOp::kTrim, offset_bytes, length_bytes, nullptr, 0, "cannot trim");
}

Status write_zeroes_sync(BlockDevice& device, uint64_t offset_bytes, uint64_t length_bytes,
                         uint32_t flags) {
  return run(device, IoOp::kWriteZeroes, offset_bytes, length_bytes, nullptr, flags,
             "cannot write zeroes");
}

}  // namespace tidemark
