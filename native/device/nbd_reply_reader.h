// NbdReplyReader: takes a server's replies off a connection, and trusts none of
// them: what does not belong to a request in flight, is longer than it may be, or
// lies outside of what was asked for, ends the connection before a byte of it is
// used.
//
// Cost: one recvmsg() takes many small replies at once into a buffer, from where
// short payloads are copied; of a long payload all that is not in the buffer
// already goes straight to the request's own memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "device/nbd_client_part.h"

namespace tidemark {

// Who knows the requests in flight.
class NbdPartsInFlight {
 public:
  virtual ~NbdPartsInFlight() = default;
  // Null: there is none of this cookie whose request was sent as a whole.
  virtual NbdClientPart* find(uint64_t cookie) noexcept = 0;
  // Its reply is complete; `part.error` says how it ended.
  virtual void on_finished(NbdClientPart& part) = 0;
};

class NbdReplyReader {
 public:
  enum class Result : uint8_t {
    kGoOn,
    kEnded,      // the server hung up, or says that it is about to
    kViolation,  // it broke the protocol; why() says how
  };

  NbdReplyReader(bool is_structured, std::optional<uint32_t> allocation_context,
                 NbdPartsInFlight& parts);

  // Takes what has arrived.
  Result receive(int fd);
  const std::string& why() const noexcept { return why_; }

 private:
  enum class Step : uint8_t { kNext, kNeedsMore, kStop };

  Result parse();
  Step parse_reply();
  Step parse_simple();
  Step parse_chunk();
  Step take_chunk(const nbd::StructuredChunk& chunk, NbdClientPart& part);
  Step take_data(const nbd::StructuredChunk& chunk, NbdClientPart& part);
  Step take_hole(const nbd::StructuredChunk& chunk, NbdClientPart& part);
  Step take_error(const nbd::StructuredChunk& chunk, NbdClientPart& part);
  Step take_extents(const nbd::StructuredChunk& chunk, NbdClientPart& part);
  Step end_of_chunk(NbdClientPart& part, bool is_done);
  void finish(NbdClientPart& part);

  Step begin_payload(NbdClientPart& part, std::byte* to, size_t length_bytes, bool is_done);
  bool take_payload();
  Step violation(const char* what);
  Step ended(const char* what);
  bool is_range_of(const NbdClientPart& part, uint64_t offset_bytes,
                   uint64_t length_bytes) const noexcept;

  const std::byte* at() const noexcept { return buffer_.get() + begin_; }
  size_t buffered_bytes() const noexcept { return end_ - begin_; }

  const bool is_structured_;
  const std::optional<uint32_t> allocation_context_;
  NbdPartsInFlight& parts_;

  const std::unique_ptr<std::byte[]> buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;

  NbdClientPart* payload_part_ = nullptr;  // whose payload is arriving
  std::byte* payload_to_ = nullptr;
  size_t payload_left_bytes_ = 0;
  bool is_last_chunk_ = false;

  Result stopped_ = Result::kGoOn;
  std::string why_;
};

}  // namespace tidemark
