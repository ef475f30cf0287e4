// NbdClientSession: the connections to one instance of a server. One lost
// connection ends it as a whole: what the others still answer could come from
// another instance than what was lost. One thread's own.
#pragma once

#include <poll.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "device/nbd_client_connection.h"

namespace tidemark {

class NbdClientSession {
 public:
  // Connects and negotiates, each connection within the patience; the first one
  // must come about, later ones may fail.
  static Result<std::unique_ptr<NbdClientSession>> open(const NbdDeviceParameters& parameters,
                                                        uint32_t connection_count,
                                                        const NbdPatience& patience);

  const NbdExportDescription& description() const noexcept { return description_; }
  size_t connection_count() const noexcept { return connections_.size(); }
  // The server let a further connection wait: it takes no more than these.
  bool is_at_server_limit() const noexcept { return is_at_server_limit_; }

  NbdClientPart& acquire();
  void release(NbdClientPart& part) noexcept { free_.push(part); }
  void issue(NbdClientPart& part) noexcept { waiting_.push(part); }

  enum class Health : uint8_t { kGood, kLost, kViolation };

  // Sends what the windows have room for.
  Health pump();
  void append_polls(std::vector<pollfd>& polls) const;
  // `polls`: the ones appended, after poll(). What is complete goes to `finished`.
  Health receive(std::span<const pollfd> polls, NbdPartQueue& finished);
  const std::string& why() const noexcept { return why_; }

 private:
  explicit NbdClientSession(const NbdExportDescription& description) : description_(description) {}
  NbdClientConnection* connection_with_room() noexcept;

  const NbdExportDescription description_;
  std::vector<std::unique_ptr<NbdClientConnection>> connections_;
  std::deque<NbdClientPart> parts_;
  NbdPartQueue free_;
  NbdPartQueue waiting_;  // for room in a connection's window
  bool is_at_server_limit_ = false;
  std::string why_;
};

}  // namespace tidemark
