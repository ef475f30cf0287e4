// Reads: in one piece, or in parts between what is known to be zeroes.
#include <algorithm>
#include <cerrno>
#include <memory>

#include "nbd/transmission.h"
#include "nbd/wire_error.h"

namespace tidemark::nbd {

namespace {

// Calls part(request) for each extent that is zero, or for each that is not.
template <typename PartFn>
void for_each_part(const ClientRequest& request, const std::vector<DeviceExtent>& extents,
                   bool zero, PartFn part) {
  ClientRequest piece = request;
  for (const DeviceExtent& extent : extents) {
    piece.length_bytes = extent.length_bytes;
    if (is_zero(extent) == zero) part(piece);
    piece.offset_bytes += extent.length_bytes;
  }
}

}  // namespace

// The device reads into the reply itself, behind room for its header.
void Transmission::submit_read(const ClientRequest& request) {
  const size_t header_bytes = replies_.read_header_bytes();
  ChunkRef chunk;
  std::byte* room = channel_.output.reserve(header_bytes + request.length_bytes, chunk);
  if (room == nullptr) return answer_error(request, {WireError::kNoMemory, "out of memory"});
  NbdRequest& read = channel_.loop.requests.acquire();
  read.chunk = std::move(chunk);
  read.reply = room;
  read.data = room + header_bytes;
  submit(read, request, IoOp::kRead);
}

bool Transmission::may_be_sparse(const ClientRequest& request) const noexcept {
  return request.length_bytes >= SparseReadPlanner::kMinimumBytes && has_cheap_extents_ &&
         replies_.has_chunks() && (request.flags & kCommandDf) == 0;
}

void Transmission::submit_sparse_read(const ClientRequest& request) {
  std::vector<DeviceExtent>& extents = channel_.loop.extents;
  if (!sparse_reads_.plan(device_, request, extents)) return submit_read(request);
  const ReplyTo to{request.cookie, request.offset_bytes};
  const auto part_count = static_cast<uint32_t>(
      extents.size() - std::count_if(extents.begin(), extents.end(), is_zero));
  auto* sparse = part_count > 0 ? new SparseRead{to, part_count} : nullptr;
  if (sparse == nullptr) channel_.loop.requests_total.increment();
  for_each_part(request, extents, true, [&](const ClientRequest& hole) {
    replies_.read_hole(to, hole.offset_bytes, static_cast<uint32_t>(hole.length_bytes),
                       sparse == nullptr && hole.end_bytes() == request.end_bytes());
  });
  // After the holes: the part that completes last ends the reply, and may do so
  // inside submit(). What completes there does not touch the extents.
  for_each_part(request, extents, false,
                [&](const ClientRequest& data) { submit_part(data, *sparse); });
}

void Transmission::submit_part(const ClientRequest& part, SparseRead& sparse) {
  const size_t header_bytes = replies_.read_header_bytes();
  ChunkRef chunk;
  std::byte* room = channel_.output.reserve(header_bytes + part.length_bytes, chunk);
  if (room == nullptr) return end_part(sparse, ENOMEM);
  NbdRequest& read = channel_.loop.requests.acquire();
  read.chunk = std::move(chunk);
  read.sparse = &sparse;
  read.reply = room;
  read.data = room + header_bytes;
  submit(read, part, IoOp::kRead);
}

void Transmission::finish_part(NbdRequest& request) {
  SparseRead& sparse = *std::exchange(request.sparse, nullptr);
  if (request.error == 0 && !is_dropping_) {
    request.reply_to = sparse.to;
    replies_.read_done(request, sparse.parts_left == 1 && sparse.error == 0);
  }
  end_part(sparse, request.error);
}

// The error of one part is told once all have ended: nothing may follow it.
void Transmission::end_part(SparseRead& sparse, int error) {
  if (sparse.error == 0) sparse.error = error;
  if (--sparse.parts_left > 0) return;
  const std::unique_ptr<SparseRead> ended(&sparse);
  channel_.loop.requests_total.increment();
  if (sparse.error == 0) return;
  channel_.loop.errors_total.increment();
  if (is_dropping_) return;
  replies_.error(Command::kRead, sparse.to, wire_error(sparse.error, false),
                 "the disk reports an error");
}

}  // namespace tidemark::nbd
