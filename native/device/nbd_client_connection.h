// NbdClientConnection: one connection in the transmission phase: what is to be
// sent, and what is in flight. One thread's own.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "common/fd.h"
#include "device/nbd_client_handshake.h"
#include "device/nbd_reply_reader.h"

namespace tidemark {

class NbdClientConnection final : public NbdPartsInFlight {
 public:
  // As deep as other servers' clients go; what does not fit waits with the session.
  static constexpr size_t kMaximumInFlight = 128;

  NbdClientConnection(UniqueFd fd, const NbdExportDescription& description);
  ~NbdClientConnection() override;  // says goodbye when nothing is half sent

  int fd() const noexcept { return fd_.get(); }
  size_t in_flight_count() const noexcept { return in_flight_count_; }
  bool has_room() const noexcept { return in_flight_count_ < kMaximumInFlight; }
  bool wants_to_send() const noexcept { return !unsent_.is_empty(); }

  void queue(NbdClientPart& part) noexcept;

  // Sends until nothing is left or the socket takes no more; false when it is lost.
  bool send();
  // Takes what has arrived; what is complete is appended to `finished`.
  NbdReplyReader::Result receive(NbdPartQueue& finished);
  const std::string& why() const noexcept { return why_.empty() ? reader_.why() : why_; }

 private:
  NbdClientPart* find(uint64_t cookie) noexcept override;
  void on_finished(NbdClientPart& part) override;
  void advance(size_t sent_bytes) noexcept;

  UniqueFd fd_;
  NbdReplyReader reader_;
  std::string why_;

  // A cookie is the slot's index, and above it a serial number: one that comes
  // back late or wrong fits no request.
  std::array<NbdClientPart*, kMaximumInFlight> slots_{};
  std::array<uint8_t, kMaximumInFlight> free_slots_{};
  size_t in_flight_count_ = 0;
  uint64_t serial_ = 0;

  NbdPartQueue unsent_;
  size_t front_sent_bytes_ = 0;  // of the first unsent part, header included
  NbdPartQueue* finished_ = nullptr;
};

}  // namespace tidemark
