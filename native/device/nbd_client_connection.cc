#include "device/nbd_client_connection.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <cerrno>
#include <cstring>

namespace tidemark {

namespace {

constexpr size_t kMaximumPieces = 128;  // of one sendmsg()
constexpr uint64_t kSlotBits = 8;
static_assert(NbdClientConnection::kMaximumInFlight <= 1U << kSlotBits);

// What is left of a part, as one or two pieces.
size_t add_pieces(const NbdClientPart& part, size_t sent_bytes, iovec* pieces) noexcept {
  size_t count = 0;
  constexpr size_t kHeaderBytes = sizeof part.header;
  if (sent_bytes < kHeaderBytes) {
    auto* header = reinterpret_cast<std::byte*>(const_cast<nbd::RequestHeader*>(&part.header));
    pieces[count++] = {header + sent_bytes, kHeaderBytes - sent_bytes};
    sent_bytes = 0;
  } else {
    sent_bytes -= kHeaderBytes;
  }
  const size_t payload_bytes = part.sent_payload_bytes();
  if (sent_bytes < payload_bytes) {
    pieces[count++] = {part.data + sent_bytes, payload_bytes - sent_bytes};
  }
  return count;
}

}  // namespace

NbdClientConnection::NbdClientConnection(UniqueFd fd, const NbdExportDescription& description)
    : fd_(std::move(fd)),
      reader_(description.structured_replies, description.allocation_context, *this) {
  for (size_t i = 0; i < kMaximumInFlight; ++i) free_slots_[i] = static_cast<uint8_t>(i);
}

NbdClientConnection::~NbdClientConnection() {
  if (front_sent_bytes_ != 0) return;
  nbd::RequestHeader goodbye{};
  goodbye.magic = nbd::kRequestMagic;
  goodbye.command = static_cast<uint16_t>(nbd::Command::kDisconnect);
  [[maybe_unused]] const ssize_t sent =
      ::send(fd_.get(), &goodbye, sizeof goodbye, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void NbdClientConnection::queue(NbdClientPart& part) noexcept {
  const uint8_t slot = free_slots_[in_flight_count_++];
  slots_[slot] = &part;
  part.cookie = ++serial_ << kSlotBits | slot;
  part.is_sent = false;
  part.error = 0;
  part.coverage.clear();
  part.extents.clear();
  part.header = {nbd::kRequestMagic, part.flags,        static_cast<uint16_t>(part.command),
                 part.cookie,        part.offset_bytes, part.length_bytes};
  unsent_.push(part);
}

bool NbdClientConnection::send() {
  while (!unsent_.is_empty()) {
    std::array<iovec, kMaximumPieces> pieces;
    size_t count = 0;
    size_t sent_bytes = front_sent_bytes_;
    for (const NbdClientPart* part = unsent_.front();
         part != nullptr && count + 2 <= kMaximumPieces; part = part->next) {
      count += add_pieces(*part, sent_bytes, &pieces[count]);
      sent_bytes = 0;
    }
    msghdr message{};
    message.msg_iov = pieces.data();
    message.msg_iovlen = count;
    const ssize_t sent = ::sendmsg(fd_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EAGAIN) return true;
    if (sent < 0 && errno != EINTR) {
      why_ = std::string("cannot send to the server: ") + std::strerror(errno);
      return false;
    }
    if (sent > 0) advance(static_cast<size_t>(sent));
  }
  return true;
}

void NbdClientConnection::advance(size_t sent_bytes) noexcept {
  front_sent_bytes_ += sent_bytes;
  while (!unsent_.is_empty()) {
    NbdClientPart& part = *unsent_.front();
    const size_t whole_bytes = sizeof part.header + part.sent_payload_bytes();
    if (front_sent_bytes_ < whole_bytes) return;
    front_sent_bytes_ -= whole_bytes;
    part.is_sent = true;
    unsent_.pop();
  }
}

NbdReplyReader::Result NbdClientConnection::receive(NbdPartQueue& finished) {
  finished_ = &finished;
  return reader_.receive(fd_.get());
}

NbdClientPart* NbdClientConnection::find(uint64_t cookie) noexcept {
  const uint64_t slot = cookie & ((1U << kSlotBits) - 1);
  NbdClientPart* part = slot < kMaximumInFlight ? slots_[slot] : nullptr;
  return part != nullptr && part->cookie == cookie && part->is_sent ? part : nullptr;
}

void NbdClientConnection::on_finished(NbdClientPart& part) {
  const auto slot = static_cast<uint8_t>(part.cookie & ((1U << kSlotBits) - 1));
  slots_[slot] = nullptr;
  free_slots_[--in_flight_count_] = slot;
  finished_->push(part);
}

}  // namespace tidemark
