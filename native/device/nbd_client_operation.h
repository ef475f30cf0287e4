// NbdClientOperation: one request of the device, or one of the device's own, from
// its arrival to its completion, over as many sessions as that takes.
#pragma once

#include <chrono>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>

#include "device/io_request.h"
#include "device/nbd_client_session.h"
#include "device/nbd_extent_query.h"

namespace tidemark {

struct NbdClientOperation {
  enum class Kind : uint8_t {
    kRequest,   // `request` is the device's user's
    kOwnFlush,  // to make room among the unflushed writes
    kReplay,    // writes an unflushed write again
    kExtents,   // answers `query`
  };
  using Clock = std::chrono::steady_clock;

  std::list<NbdClientOperation>::iterator self;  // in whichever list it is
  Kind kind = Kind::kRequest;
  IoRequest* request = nullptr;  // null for extents
  std::shared_ptr<NbdExtentQuery> query;

  // Of the present session.
  uint32_t parts_left = 0;
  int error = 0;              // 0 or an errno: the first of its parts
  bool is_flushing = false;   // FUA without FUA: written, now being flushed
  bool is_patient = false;    // a trim that could not be done quickly
  uint64_t flush_covers = 0;  // unflushed writes before this number

  uint32_t violation_count = 0;              // how often its session ended for what the server sent
  std::optional<Clock::time_point> lost_at;  // since when it has waited for a reconnect

  bool is_write_class() const noexcept { return request != nullptr && request->is_write_class(); }
  void reset() noexcept {
    parts_left = 0;
    error = 0;
    is_flushing = is_patient = false;
  }
};

// Cuts the operation into parts and issues them. Without any (`parts_left` is 0
// then) it is over at once, with `operation.error`.
void issue_nbd_operation(NbdClientOperation& operation, NbdClientSession& session);

// Books a finished part and hands it back. True: the operation is over.
bool finish_nbd_part(NbdClientPart& part, NbdClientSession& session);

// How far the server's answer may be trusted: cut to the question, in whole.
std::vector<DeviceExtent> nbd_extents_of(const NbdClientPart& part, const NbdExtentQuery& query);

}  // namespace tidemark
