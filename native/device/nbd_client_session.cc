#include "device/nbd_client_session.h"

#include <algorithm>

namespace tidemark {

namespace {

// A server may take fewer connections than it says, and leave one more unanswered.
constexpr std::chrono::milliseconds kFurtherConnectionLimit{1000};

struct Negotiated {
  UniqueFd fd;
  NbdExportDescription description;
};

Result<Negotiated> connect_and_negotiate(const NbdDeviceParameters& parameters,
                                         const NbdPatience& patience) {
  auto socket = NbdClientSocket::connect(parameters, patience);
  if (!socket.is_ok()) return socket.status();
  auto description = negotiate_nbd(socket.value(), parameters.export_name);
  if (!description.is_ok()) return description.status();
  return Negotiated{socket.value().take_fd(), description.value()};
}

bool is_same(const NbdExportDescription& a, const NbdExportDescription& b) noexcept {
  return a.size_bytes == b.size_bytes && a.transmission_flags == b.transmission_flags &&
         a.minimum_block_bytes == b.minimum_block_bytes &&
         a.maximum_payload_bytes == b.maximum_payload_bytes &&
         a.structured_replies == b.structured_replies &&
         a.allocation_context == b.allocation_context;
}

}  // namespace

Result<std::unique_ptr<NbdClientSession>> NbdClientSession::open(
    const NbdDeviceParameters& parameters, uint32_t connection_count, const NbdPatience& patience) {
  auto first = connect_and_negotiate(parameters, patience);
  if (!first.is_ok()) return first.status();
  const NbdExportDescription description = first.value().description;
  std::unique_ptr<NbdClientSession> session(new NbdClientSession(description));
  session->connections_.push_back(
      std::make_unique<NbdClientConnection>(std::move(first.value().fd), description));
  if (!description.has(nbd::kFlagCanMultiConn)) connection_count = 1;
  while (session->connections_.size() < connection_count) {
    const auto deadline =
        std::min(patience.deadline, std::chrono::steady_clock::now() + kFurtherConnectionLimit);
    auto further = connect_and_negotiate(parameters, {deadline, patience.cancel_fd});
    session->is_at_server_limit_ = further.status().code() == ErrorCode::kTimedOut;
    if (!further.is_ok() || !is_same(further.value().description, description)) break;
    session->connections_.push_back(
        std::make_unique<NbdClientConnection>(std::move(further.value().fd), description));
  }
  return session;
}

NbdClientPart& NbdClientSession::acquire() {
  NbdClientPart* part = free_.pop();
  return part != nullptr ? *part : parts_.emplace_back();
}

NbdClientConnection* NbdClientSession::connection_with_room() noexcept {
  NbdClientConnection* best = nullptr;
  for (const auto& connection : connections_) {
    if (!connection->has_room()) continue;
    if (best == nullptr || connection->in_flight_count() < best->in_flight_count()) {
      best = connection.get();
    }
  }
  return best;
}

NbdClientSession::Health NbdClientSession::pump() {
  while (!waiting_.is_empty()) {
    NbdClientConnection* connection = connection_with_room();
    if (connection == nullptr) break;
    connection->queue(*waiting_.pop());
  }
  for (const auto& connection : connections_) {
    if (connection->wants_to_send() && !connection->send()) {
      why_ = connection->why();
      return Health::kLost;
    }
  }
  return Health::kGood;
}

void NbdClientSession::append_polls(std::vector<pollfd>& polls) const {
  for (const auto& connection : connections_) {
    const short events = connection->wants_to_send() ? POLLIN | POLLOUT : POLLIN;
    polls.push_back({connection->fd(), events, 0});
  }
}

NbdClientSession::Health NbdClientSession::receive(std::span<const pollfd> polls,
                                                   NbdPartQueue& finished) {
  for (size_t i = 0; i < polls.size(); ++i) {
    if ((polls[i].revents & (POLLIN | POLLHUP | POLLERR)) == 0) continue;
    const NbdReplyReader::Result result = connections_[i]->receive(finished);
    if (result == NbdReplyReader::Result::kGoOn) continue;
    why_ = connections_[i]->why();
    const bool is_violation = result == NbdReplyReader::Result::kViolation;
    return is_violation ? Health::kViolation : Health::kLost;
  }
  return Health::kGood;
}

}  // namespace tidemark
